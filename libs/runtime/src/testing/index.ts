export { BUSYBOX_IMAGE, handleOf, makeBusyboxRoot, makeScratch, type Scratch } from "./rootfs.ts";
export { conmonPid, eventually, initPid, makeRuntime, type RuntimeFixture } from "./runtime-fixture.ts";
