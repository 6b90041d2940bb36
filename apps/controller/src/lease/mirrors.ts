/** A page of the registry mirrors, which are the same for every node; never larger than a message may be. */
import { create, toBinary } from "@bufbuild/protobuf";
import { MirrorsReplySchema, RegistryMirrorSchema, type MirrorsReply } from "@berth/proto";
import { mirrorsPage, type Store } from "@berth/store";

const PAGE_ITEMS = 100;
/** NATS takes 1 MiB; a single mirror is bounded by the API. */
const PAGE_BYTES = 512 * 1024;

export async function readMirrors(store: Store, offset: number): Promise<MirrorsReply> {
  const page = await store.snapshot((tx) => mirrorsPage(tx, offset, PAGE_ITEMS));
  let bytes = 0;
  const fits = page.mirrors.findIndex((mirror, index) => {
    bytes += toBinary(RegistryMirrorSchema, mirror).length;
    return index > 0 && bytes > PAGE_BYTES;
  });
  if (fits < 0) return page;
  const { storeEpoch, revision, mirrors } = page;
  return create(MirrorsReplySchema, {
    storeEpoch,
    revision,
    mirrors: mirrors.slice(0, fits),
    nextOffset: offset + fits,
  });
}
