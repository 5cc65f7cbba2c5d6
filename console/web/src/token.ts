// annex console answers who has the token of the address that it printed. The page keeps it for its
// tab and sends it as a header. A cookie would go to every port of 127.0.0.1, those of other users of the
// machine too; what a tab stores is of this port alone.

/** tokenHeader is where annex console looks for the token. */
export const tokenHeader = "Annex-Console-Token";

const begins = "#token=";
const key = "annex-console-token";

/**
 * takeToken is the token that an address has, or else the one that this tab was opened with; empty
 * where nobody asks for one. taken says that it was in the address, which should show it no longer.
 */
export function takeToken(hash: string, tab: () => Pick<Storage, "getItem" | "setItem">): { token: string; taken: boolean } {
  const taken = hash.startsWith(begins);
  const token = taken ? hash.slice(begins.length) : "";
  try {
    if (taken) tab().setItem(key, token);
    return { token: taken ? token : (tab().getItem(key) ?? ""), taken };
  } catch {
    return { token, taken }; // a browser that stores nothing: it holds until the page is loaded anew
  }
}
