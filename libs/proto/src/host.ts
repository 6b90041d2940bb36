/** One host's own API (berth.host.v1), apart from the fleet's: `@berth/proto/host`. */
export * from "./gen/berth/host/v1/care_pb.ts";
export * from "./gen/berth/host/v1/content_pb.ts";
export * from "./gen/berth/host/v1/gc_pb.ts";
export * from "./gen/berth/host/v1/images_pb.ts";
export * from "./gen/berth/host/v1/leases_pb.ts";
export * from "./gen/berth/host/v1/node_pb.ts";
export * from "./gen/berth/host/v1/snapshots_pb.ts";
export * from "./gen/berth/host/v1/tasks_pb.ts";
