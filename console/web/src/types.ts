// What the page reads of aggregation.annex.dev/v1alpha1. Whatever may be missing in an answer is
// optional here, though the server always says it.

export type State = "Healthy" | "Degraded" | "Unavailable" | "Unknown";
export type EndpointState = "Healthy" | "Ejected" | "Draining" | "Unreachable";
export type Freshness = "Current" | "Stale" | "Unknown";

export interface Latency { p50?: string; p99?: string }
export interface Fault { code?: string; reason?: string; message?: string }
export interface View { server?: string; available?: string; reason?: string; since?: string }

export interface Endpoint {
  address: string;
  kind?: string;
  zone?: string;
  node?: string;
  pod?: string;
  state?: EndpointState;
  since?: string;
  inFlight?: number;
  requests?: number;
  latency?: Latency;
  errorRate?: string;
  lastError?: { message?: string; time?: string };
}

export interface Document { freshness?: Freshness; fetched?: string; bytes?: number; problem?: string }
export interface Discovery extends Document { resources?: number; warning?: string }

export interface Certificate {
  subject?: string;
  issuer?: string;
  names?: string[];
  notBefore?: string;
  notAfter?: string;
  daysLeft?: number;
  keyID?: string;
}

export interface Status {
  group?: string;
  version?: string;
  service?: string;
  state?: State;
  reason?: string;
  message?: string;
  since?: string;
  faults?: Fault[];
  server?: string;
  views?: View[];
  endpointSummary?: string;
  endpoints?: Endpoint[];
  latency?: Latency;
  errorRate?: string;
  limits?: { maxInFlight?: number; inFlight?: number; queued?: number };
  discovery?: Discovery;
  openAPIV2?: Document;
  openAPIV3?: Document;
  watchList?: string;
  certificates?: { serving?: Certificate; caBundle?: Certificate[]; frontProxy?: Certificate };
  affected?: {
    namespaces?: string[];
    namespaceCount?: number;
    autoscalers?: string[];
    autoscalerCount?: number;
    controllers?: string[];
  };
}

export interface Metadata { name: string; resourceVersion?: string }

/** A RemoteAPIService. */
export interface Service { metadata: Metadata; status: Status }

/** What the page reads of an APIService, where there are no RemoteAPIServices. */
export interface APIService {
  metadata: Metadata;
  spec?: { group?: string; version?: string; service?: { namespace?: string; name?: string; port?: number } };
  status?: { conditions?: { type?: string; status?: string; reason?: string; message?: string; lastTransitionTime?: string }[] };
}

/** What the server of the page says of itself. */
export interface About { cluster?: string; server?: string; doctor?: boolean }

/** One thing to do. Without a command it is done by hand. */
export interface Action { does?: string; remark?: string; command?: string; warning?: string }

/** What doctor says of one APIService. */
export interface Verdict { summary?: string; findings?: Finding[]; unseen?: string[] }
export interface Finding {
  code?: string;
  title?: string;
  severity?: string;
  confidence?: string;
  evidence?: string;
  remedy?: Action[];
  because?: string;
  see?: string;
}
