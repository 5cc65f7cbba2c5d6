import type { APIService, Service, State } from "./types";

const stateOfCondition: Record<string, State> = { True: "Healthy", False: "Unavailable" };

/** fromAPIService says what can be known of an APIService on a kube-apiserver without Annex: its
 * condition. It is null for those that are served by kube-apiserver itself. */
export function fromAPIService(a: APIService): Service | null {
  const service = a.spec?.service;
  if (!service) return null;
  const condition = a.status?.conditions?.find((c) => c.type === "Available");
  const state = stateOfCondition[condition?.status ?? ""] ?? "Unknown";
  return {
    metadata: a.metadata,
    status: {
      group: a.spec?.group,
      version: a.spec?.version,
      service: `${service.namespace}/${service.name}:${service.port ?? 443}`,
      state,
      reason: state === "Healthy" ? "" : (condition?.reason ?? ""),
      message: condition?.message,
      since: condition?.lastTransitionTime,
    },
  };
}
