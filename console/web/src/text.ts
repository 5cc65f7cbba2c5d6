// Text from extension servers is hostile: it is made harmless once, where it comes in, and
// only ever becomes text nodes and attributes.

/** longest is how many characters of one string are kept. */
const longest = 2000;
/** most is how many items of one list are kept. */
const most = 5000;

// Controls, and what turns the direction of text around or hides it.
const unprintable = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** printable shows what cannot be seen as its code, and ends what is too long. */
export function printable(s: string): string {
  const cut = s.length > longest ? s.slice(0, longest) + "…" : s;
  return cut.replace(unprintable, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
}

/** clean makes every string of a JSON value printable, and bounds its lists and its depth. */
export function clean<T>(value: T, depth = 0): T {
  if (typeof value === "string") return printable(value) as T;
  if (value === null || typeof value !== "object") return value;
  if (depth > 12) return undefined as T;
  if (Array.isArray(value)) return value.slice(0, most).map((v) => clean(v, depth + 1)) as T;
  const copy: Record<string, unknown> = Object.create(null);
  for (const [key, v] of Object.entries(value)) copy[key] = clean(v, depth + 1);
  return copy as T;
}
