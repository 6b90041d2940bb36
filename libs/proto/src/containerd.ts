/** containerd's own API, as far as Berth calls or serves it: `@berth/proto/containerd`. */
export * from "./gen/containerd/services/snapshots/v1/snapshots_pb.ts";
export * from "./gen/containerd/types/mount_pb.ts";
