/** The annotations of `berth/v1/options.proto`, read from descriptors. */
import { getOption, hasOption, type DescField, type DescMethod } from "@bufbuild/protobuf";
import { http, rules, type FieldRules } from "@berth/proto";

export type HttpMethod = "GET" | "PUT" | "POST" | "DELETE" | "PATCH";

export interface HttpBinding {
  readonly method: HttpMethod;
  /** `/v1/namespaces/{namespace}/tasks/{name}:restart` */
  readonly template: string;
  /** The request field that is the body (by proto name), `*` for all that is not in the path, or empty. */
  readonly body: string;
}

/** How a method is reached by HTTP; undefined for those of gRPC alone. */
export const httpBindingOf = onceOf((method: DescMethod): HttpBinding | undefined => {
  if (!hasOption(method, http)) return undefined;
  const { pattern, body } = getOption(method, http);
  if (pattern.case === undefined) return undefined;
  return { method: pattern.case.toUpperCase() as HttpMethod, template: pattern.value, body };
});

export const rulesOf = onceOf((field: DescField): FieldRules | undefined =>
  hasOption(field, rules) ? getOption(field, rules) : undefined,
);

/** The request field whose content is the resource itself, so that paths in errors may begin inside of it. */
export const bodyFieldOf = onceOf((method: DescMethod): DescField | undefined => {
  const body = httpBindingOf(method)?.body;
  if (body === undefined || body === "" || body === "*") return undefined;
  return method.input.fields.find((field) => field.name === body);
});

/** Descriptors never change, and options are decoded each time they are asked for, which every request does. */
function onceOf<Desc extends object, Value>(read: (desc: Desc) => Value): (desc: Desc) => Value {
  const known = new WeakMap<Desc, { readonly value: Value }>();
  return (desc) => {
    let found = known.get(desc);
    if (found === undefined) known.set(desc, (found = { value: read(desc) }));
    return found.value;
  };
}

/** The word that an empty field stands for: the first of its `one_of`, unless that is empty itself. */
export function defaultWord(field: DescField): string | undefined {
  return rulesOf(field)?.oneOf[0] || undefined;
}
