import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { NamespacePolicy } from "../index.ts";
import { createVerifier, type PolicyVerifier } from "../index.ts";
import { failureOf } from "../testing/failure.ts";
import { startTestHost, type TestHost } from "../testing/host.ts";
import { cosignSign, makeSigner } from "../testing/sign.ts";
import { app, blobsOf, startWarehouse, type Warehouse } from "../testing/warehouse.ts";

const signer = makeSigner();
const signed: NamespacePolicy = { rules: [], default: [{ kind: "key", keys: [signer.pem] }] };
let warehouse: Warehouse;

before(async () => {
  warehouse = await startWarehouse();
});
after(() => warehouse[Symbol.asyncDispose]());

interface Policed {
  readonly host: TestHost;
  policy: NamespacePolicy | undefined;
}

/** A host whose policy a test can change. */
async function policedHost(policy: NamespacePolicy | undefined, online = true): Promise<Policed> {
  let verifier: PolicyVerifier | undefined;
  const later: PolicyVerifier = {
    check: (candidate, signal) => verifier!.check(candidate, signal),
    allows: (subject) => verifier!.allows(subject),
    verifiedBy: (subject) => verifier!.verifiedBy(subject),
    sweep: () => verifier!.sweep(),
  };
  const hosts = online ? [{ host: warehouse.registry.host, plainHttp: true }] : [];
  const host = await startTestHost({ hosts, verifier: later });
  const policed: Policed = { host, policy };
  verifier = createVerifier({ metadata: host.metadata, policies: () => policed.policy });
  return policed;
}

const namespace = "shop";
const snapshotter = "overlayfs";

async function layersOf({ snapshotters }: TestHost): Promise<string[]> {
  return [...snapshotters.overlayfs!.refs.names(namespace)];
}

test("a pull of what is not signed fails before anything is unpacked or recorded", async () => {
  const { host } = await policedHost(signed);
  await using _ = host;
  const image = warehouse.name("other");
  assert.equal((await failureOf(host.images.pull({ namespace, image, snapshotter }))).reason, "IMAGE_UNSIGNED");
  assert.deepEqual(await host.images.list(namespace), []);
  assert.deepEqual(await layersOf(host), []);
  assert.deepEqual(await host.leavings(), []);
});

test("a policy that comes after the pull is asked at the start; a verified image starts offline", async () => {
  const policed = await policedHost(undefined);
  const { host } = policed;
  await using _ = host;
  const image = warehouse.name("app");
  await host.images.pull({ namespace, image, snapshotter });
  await host.images.authorise(namespace, image);
  policed.policy = signed;
  const error = await failureOf(host.images.authorise(namespace, image));
  assert.equal(error.reason, "IMAGE_UNSIGNED");
  assert.match(error.message, /refused by the image policy of namespace "shop"/);
  assert.equal((await failureOf(host.images.tag({ namespace, image, tag: "mine:1" }))).reason, "IMAGE_UNSIGNED");
  await cosignSign(warehouse.registry, "app", app.descriptor.digest, signer);
  await host.images.authorise(namespace, image);
  const { verified } = await host.images.inspection.inspect(namespace, image);
  assert.deepEqual(
    verified.map(({ kind, current }) => [kind, current]),
    [["key", true]],
  );
  await host.images.tag({ namespace, image, tag: "mine:1" });
  // An export takes the signature along, and a host without a network believes it.
  const path = warehouse.place("signed.tar");
  await host.images.transfer.export({ namespace, images: [image], target: { kind: "file", path } });
  const away = await policedHost(signed, false);
  await using _away = away.host;
  await away.host.images.transfer.import({ namespace, source: { kind: "file", path }, snapshotter });
  await away.host.images.authorise(namespace, image);
  away.policy = { rules: [], default: [{ kind: "key", keys: [makeSigner().pem] }] };
  assert.ok((await failureOf(away.host.images.authorise(namespace, image))).reason.startsWith("IMAGE_SIGNATURE"));
});

test("an import of what is not signed is refused and leaves nothing; a rule may let its name through", async () => {
  const policed = await policedHost(signed, false);
  const { host } = policed;
  await using _ = host;
  for (const format of ["oci", "docker"] as const) {
    const path = await warehouse.exported(format, "other");
    const request = { namespace, source: { kind: "file", path }, snapshotter } as const;
    policed.policy = signed;
    assert.equal((await failureOf(host.images.transfer.import(request))).reason, "IMAGE_UNSIGNED");
    const unpackedLater = host.images.transfer.import({ namespace, source: request.source });
    assert.equal((await failureOf(unpackedLater)).reason, "IMAGE_UNSIGNED");
    assert.deepEqual(await host.images.list(namespace), []);
    assert.deepEqual(await blobsOf(host, namespace), []);
    assert.deepEqual(await layersOf(host), []);
    policed.policy = {
      rules: [{ pattern: "trusted.example/*", require: [{ kind: "none" }] }],
      default: signed.default,
    };
    const trusted = { ...request, name: `trusted.example/${format}:1` };
    assert.equal((await host.images.transfer.import(trusted)).images[0]!.unpacked, true);
    await host.images.remove(namespace, trusted.name);
    await host.images.collect();
  }
  policed.policy = { rules: [], default: [{ kind: "digest-only" }] };
  const path = await warehouse.exported("oci", "other");
  const tagged = host.images.transfer.import({ namespace, source: { kind: "file", path } });
  assert.equal((await failureOf(tagged)).reason, "IMAGE_NOT_BY_DIGEST");
});
