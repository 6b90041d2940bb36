import assert from "node:assert/strict";
import { networkInterfaces } from "node:os";
import { test } from "node:test";
import { makeAddressGuard, RefusedAddress } from "./address-guard.ts";

const closed = makeAddressGuard({ allowPrivate: false, allowCidrs: [] });

void test("AddressGuard refuses what is not of the public internet, however it is written", () => {
  const refused = [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "100.64.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "198.18.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe",
    "0:0:0:0:0:ffff:0a00:0001", "64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "ff02::1",
    "2001:db8::1", "localhost", "",
  ]; // prettier-ignore
  for (const address of refused) assert.ok(closed.refusal(address), address);
  for (const address of [
    "1.1.1.1",
    "93.184.216.34",
    "172.32.0.1",
    "2606:4700::1111",
    "64:ff9b::808:808",
    "::ffff:8.8.8.8",
  ])
    assert.equal(closed.refusal(address), undefined, address);
});

void test("AddressGuard refuses the controller's own addresses", () => {
  const own = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
  assert.ok(own.length > 0);
  for (const { address } of own) assert.ok(closed.refusal(address), address);
});

void test("AddressGuard lets through what the configuration allows, and no more", () => {
  const some = makeAddressGuard({ allowPrivate: false, allowCidrs: ["10.20.0.0/16", "fd00:1::/48"] });
  assert.equal(some.refusal("10.20.3.4"), undefined);
  assert.equal(some.refusal("::ffff:10.20.3.4"), undefined);
  assert.equal(some.refusal("fd00:1::9"), undefined);
  assert.ok(some.refusal("10.21.0.1"));
  assert.ok(some.refusal("127.0.0.1"));
  assert.equal(makeAddressGuard({ allowPrivate: true, allowCidrs: [] }).refusal("127.0.0.1"), undefined);
});

void test("AddressGuard.lookup hands out only addresses that it has let through", async () => {
  const answers = [
    { address: "169.254.169.254", family: 4 },
    { address: "1.1.1.1", family: 4 },
    { address: "::1", family: 6 },
  ];
  const lookupOf = (found: typeof answers) =>
    makeAddressGuard({ allowPrivate: false, allowCidrs: [] }, { lookup: (_name, _options, done) => done(null, found) })
      .lookup;
  const ask = (found: typeof answers, all: boolean): Promise<unknown> =>
    new Promise((resolve, reject) =>
      lookupOf(found)("rebind.example", { all }, (error, address) => (error ? reject(error) : resolve(address))),
    );
  assert.deepEqual(await ask(answers, true), [{ address: "1.1.1.1", family: 4 }]);
  assert.equal(await ask(answers, false), "1.1.1.1");
  await assert.rejects(ask([answers[0]!, answers[2]!], true), RefusedAddress);
});
