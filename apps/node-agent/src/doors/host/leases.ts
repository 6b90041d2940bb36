/** Leases by the host door. */
import { create } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import type { Lease, Leases } from "@berth/images";
import {
  AddLeaseResourceResponseSchema,
  DeleteLeaseResponseSchema,
  LeaseSchema,
  LeaseService,
  ListLeaseResourcesResponseSchema,
  ListLeasesResponseSchema,
  RemoveLeaseResourceResponseSchema,
  type Lease as LeaseMessage,
} from "@berth/proto/host";
import { implement, type Implementation } from "@berth/rpc";

export function leaseService(leases: Leases): Implementation {
  return implement(LeaseService, {
    createLease: async ({ namespace, id, labels, expiresAt }) => {
      const expiry = expiresAt === undefined ? {} : { expiresAtMs: timestampMs(expiresAt) };
      return toLease(await leases.create(namespace, { ...(id === "" ? {} : { id }), labels, ...expiry }));
    },
    listLeases: async ({ namespace, filters }) => {
      const found = await leases.list(namespace, filters);
      return create(ListLeasesResponseSchema, { leases: found.map(toLease) });
    },
    deleteLease: async ({ namespace, id, sync }) => {
      await leases.delete(namespace, id, { sync });
      return create(DeleteLeaseResponseSchema);
    },
    addLeaseResource: async ({ namespace, id, resource }) => {
      await leases.addResource(namespace, id, resource!);
      return create(AddLeaseResourceResponseSchema);
    },
    removeLeaseResource: async ({ namespace, id, resource }) => {
      await leases.deleteResource(namespace, id, resource!);
      return create(RemoveLeaseResourceResponseSchema);
    },
    listLeaseResources: async ({ namespace, id }) => {
      const found = await leases.listResources(namespace, id);
      return create(ListLeaseResourcesResponseSchema, {
        resources: found.map((resource) => ({ type: resource.type, id: resource.id })),
      });
    },
  });
}

function toLease({ id, labels, createdAtMs, expiresAtMs }: Lease): LeaseMessage {
  const expiry = expiresAtMs === undefined ? {} : { expiresAt: timestampFromMs(expiresAtMs) };
  return create(LeaseSchema, { id, labels, createdAt: timestampFromMs(createdAtMs), ...expiry });
}
