import assert from "node:assert/strict";
import { test } from "node:test";
import { makeSecret, secretProblem, signedHeaders } from "./signature.ts";

void test("signedHeaders signs as the example of Standard Webhooks", () => {
  const headers = signedHeaders(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], {
    id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
    atSeconds: 1_614_265_330,
    body: '{"test": 2432232314}',
  });
  assert.deepEqual(headers, {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
  });
});

void test("secretProblem takes what makeSecret makes, and says what is wrong without saying what it is", () => {
  assert.equal(secretProblem(makeSecret()), undefined);
  assert.equal(secretProblem("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), undefined);
  assert.equal(secretProblem("hunter2hunter2hunter2"), "does not begin with whsec_");
  assert.equal(secretProblem("whsec_%%%"), "is not base64");
  assert.equal(secretProblem("whsec_aGk="), "holds 2 bytes; use 24 to 64");
});
