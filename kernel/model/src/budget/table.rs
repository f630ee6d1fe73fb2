//! The table of all budgets. `SECURITY.md` shows it, and a test exhausts each entry.

use std::time::Duration;

use super::BudgetOwner::{Call, Credential, Evaluation, Host, Installation, Peer, Request, Workspace};
use super::BudgetUnit::{AtOnce, Bytes, Items, Kept, ProcessorMs, Steps, WallMs};
use super::{Budget, BudgetOwner, BudgetUnit};

/// Where nobody sets a budget.
const FIXED: &str = "fixed";

const fn budget(
    name: &'static str,
    owner: BudgetOwner,
    unit: BudgetUnit,
    default: u64,
    setting: &'static str,
) -> Budget {
    Budget { name, owner, unit, default, period: None, setting }
}

/// One that comes back within a second.
const fn each_second(name: &'static str, owner: BudgetOwner, unit: BudgetUnit, default: u64) -> Budget {
    Budget { name, owner, unit, default, period: Some(Duration::from_secs(1)), setting: FIXED }
}

/// One that comes back within an hour.
const fn hourly(
    name: &'static str,
    owner: BudgetOwner,
    unit: BudgetUnit,
    default: u64,
    setting: &'static str,
) -> Budget {
    Budget { name, owner, unit, default, period: Some(Duration::from_secs(3_600)), setting }
}

// Connections and bodies.

/// Connections at once.
pub static CONNECTIONS: Budget = budget("connections", Host, AtOnce, 4_096, "--connections");
/// Connections of one address at once.
pub static PEER_CONNECTIONS: Budget = budget("peer-connections", Peer, AtOnce, 1_024, "--peer-connections");
/// Requests of one address under way, where a proxy's connections carry those of many.
pub static PEER_REQUESTS: Budget = budget("peer-requests", Peer, AtOnce, 1_024, "--peer-connections");
/// Requests of one address without a valid key in a minute; more of them are answered 429.
pub static FAILED_AUTHENTICATIONS: Budget = Budget {
    period: Some(Duration::from_secs(60)),
    ..budget("failed-authentications", Peer, Items, 300, "--failed-authentications")
};
/// Refusals of one address in a minute that are answered at once, connections for which there is no place among them; further
/// ones are held back for one to two seconds each.
pub static PROMPT_REFUSALS: Budget =
    Budget { period: Some(Duration::from_secs(60)), ..budget("prompt-refusals", Peer, Items, 120, FIXED) };
/// Requests with one key under way.
pub static CREDENTIAL_REQUESTS: Budget = budget("credential-requests", Credential, AtOnce, 1_024, "--key-requests");
/// Bodies of requests with one key in memory together.
pub static CREDENTIAL_MEMORY: Budget = budget("credential-memory", Credential, Bytes, 128 << 20, "--key-memory");
/// What requests with a workspace's keys have the server compute, questions about everybody and calls of plugins apart; beyond
/// it they begin later, and are refused where that would be after long.
pub static REQUEST_PROCESSOR: Budget = each_second("request-processor", Workspace, ProcessorMs, 1_000);
/// Exports of people, of members and of the audit log under way.
pub static EXPORTS_AT_ONCE: Budget = budget("exports-at-once", Workspace, AtOnce, 4, FIXED);
/// What one source brings in an hour, as its connector reads it; the last request may bring more than was left.
pub static SOURCE_BYTES: Budget = hourly("source-bytes", Installation, Bytes, 64 << 30, "--source-bytes");
/// What the imports of a workspace under way remember of their rows, to count equal ones: 34 bytes at most for each row without
/// an id, and as much for each with one, up to a million.
pub static IMPORT_MEMORY: Budget = budget("import-memory", Workspace, Bytes, 256 << 20, "--import-memory");
/// What the process takes of memory that is no file's, all together; while it is more, bodies are refused. The default is three
/// quarters of the machine's or the control group's, and this where that is less or not known.
pub static PROCESS_MEMORY: Budget = budget("process-memory", Host, Bytes, 512 << 20, "--memory");
/// Bodies of requests in memory together.
pub static INTAKE_MEMORY: Budget = budget("intake-memory", Host, Bytes, 256 << 20, "--intake-memory");
/// The same of senders that do not say in the head who they are: a sixteenth of it.
pub static STRANGER_MEMORY: Budget = budget("stranger-memory", Host, Bytes, 16 << 20, "--intake-memory");
/// A client request's body, as sent and as decoded.
pub static CLIENT_BODY: Budget = budget("client-body", Request, Bytes, 10 << 20, FIXED);
/// The same of a sender who does not say in the head who it is: browsers do not, and send batches of less.
pub static STRANGER_BODY: Budget = budget("stranger-body", Request, Bytes, 512 << 10, FIXED);
/// One stream of records to a source, as decoded; it is never in memory as a whole.
pub static STREAM_BODY: Budget = budget("stream-body", Request, Bytes, 64 << 30, FIXED);
/// A JSON body of the admin API.
pub static JSON_BODY: Budget = budget("json-body", Request, Bytes, 1 << 20, FIXED);
/// Until a request's head is there, the wait for a next request included.
pub static HEAD_TIME: Budget = budget("head-time", Request, WallMs, 10_000, FIXED);
/// How long a body, or an answer's reader, is waited for; each KiB gives a second back.
pub static BODY_TIME: Budget = budget("body-time", Request, WallMs, 30_000, FIXED);

// Expressions and questions.

/// The text of an expression.
pub static EXPRESSION_TEXT: Budget = budget("expression-text", Request, Bytes, 8_192, FIXED);
/// What an expression may take for a person, also at worst as it is written.
pub static EXPRESSION_STEPS: Budget = budget("expression-steps", Evaluation, Steps, 100_000, FIXED);
/// Texts and lists that an expression makes for a person.
pub static EXPRESSION_BYTES: Budget = budget("expression-bytes", Evaluation, Bytes, 16 << 20, FIXED);
/// Questions that look at everybody and wait for their turn.
pub static QUESTIONS_WAITING: Budget = budget("questions-waiting", Workspace, AtOnce, 8, FIXED);
/// How long one of them is worked at.
pub static QUESTION_TIME: Budget = budget("question-time", Request, WallMs, 60_000, FIXED);
/// Traits that a search of people asks for.
pub static SEARCH_TRAITS: Budget = budget("search-traits", Request, Items, 32, FIXED);

// Guests.

/// All memories of one call.
pub static GUEST_MEMORY: Budget = budget("guest-memory", Call, Bytes, 64 << 20, "grants.limits.memory_bytes");
/// Processor time of one call.
pub static GUEST_PROCESSOR: Budget = budget("guest-processor", Call, ProcessorMs, 2_000, "grants.limits.cpu_ms");
/// Time of one call, host calls included.
pub static GUEST_TIME: Budget = budget("guest-time", Call, WallMs, 30_000, "grants.limits.wall_ms");
/// Processor time of one fit, which reads a whole history.
pub static FIT_PROCESSOR: Budget = budget("fit-processor", Call, ProcessorMs, 60_000, FIXED);
/// Time of one fit.
pub static FIT_TIME: Budget = budget("fit-time", Call, WallMs, 120_000, FIXED);
/// Fits of one installation that are kept with their states, and as many that failed; the oldest go, but for the one in use.
pub static FITS_KEPT: Budget = budget("fits-kept", Installation, Kept, 20, FIXED);
/// What a guest hands to the host at once.
pub static GUEST_OUTPUT: Budget = budget("guest-output", Call, Bytes, 16 << 20, "grants.limits.output_bytes");
/// What one call may log; more is cut, and counted.
pub static GUEST_LOG: Budget = budget("guest-log", Call, Bytes, 64 << 10, "grants.limits.log_bytes");
/// What is kept of an installation's log lines to be read; the oldest go.
pub static GUEST_LOG_KEPT: Budget = budget("guest-log-kept", Installation, Bytes, 64 << 10, FIXED);
/// Host calls of one call.
pub static GUEST_HOST_CALLS: Budget = budget("guest-host-calls", Call, Items, 10_000, "grants.limits.host_calls");
/// Requests to one source that wait and go into one call of its connector; more go into the next.
pub static GUEST_REQUESTS: Budget = budget("guest-requests", Call, Items, 16, FIXED);
/// Bodies of these together; one request is taken however large it is.
pub static GUEST_REQUESTS_SIZE: Budget = budget("guest-requests-size", Call, Bytes, 256 << 10, FIXED);
/// Events that one call of a model may emit; a batch with more is asked about in parts.
pub static GUEST_EVENTS: Budget = budget("guest-events", Call, Items, 4_096, FIXED);
/// Bytes of these events: names, properties and keys, and 64 for each.
pub static GUEST_EVENT_BYTES: Budget = budget("guest-event-bytes", Call, Bytes, 1 << 20, FIXED);
/// New events that one model emits of one person in a day, and as many that are no news and count as told; further ones
/// are left out and listed with the dead letters, so that a model which its own events set off comes to an end.
pub static PERSON_EVENTS: Budget =
    Budget { period: Some(Duration::from_secs(86_400)), ..budget("person-events", Installation, Items, 24, FIXED) };
/// Memory of all calls under way together, each counted with what it may take at most; a quarter as much again is for requests
/// of polls and the answers to them. The default is a quarter of the machine's, and this where that is less or not known.
pub static HOST_GUEST_MEMORY: Budget = budget("host-guest-memory", Host, Bytes, 256 << 20, "--guest-memory");
/// Calls of one installation under way, those included that wait for a peer.
pub static GUEST_CALLS: Budget = budget("guest-calls", Installation, AtOnce, 16, FIXED);
/// Calls of one installation that wait for their turn.
pub static GUEST_CALLS_WAITING: Budget = budget("guest-calls-waiting", Installation, AtOnce, 64, FIXED);
/// Inputs of one installation's calls that wait for their turn.
pub static GUEST_INPUT_WAITING: Budget = budget("guest-input-waiting", Installation, Bytes, 128 << 20, FIXED);
/// Inputs of all calls that wait for their turn.
pub static HOST_GUEST_INPUT_WAITING: Budget = budget("host-guest-input-waiting", Host, Bytes, 256 << 20, FIXED);
/// How long a request waits for its plugin's turn.
pub static GUEST_QUEUE_TIME: Budget = budget("guest-queue-time", Request, WallMs, 10_000, FIXED);
/// Calls of the version that runs beside an installation's live one, the one that waits included; what comes meanwhile is not
/// compared.
pub static SHADOW_CALLS: Budget = budget("shadow-calls", Installation, AtOnce, 1, FIXED);
/// What the call under way of all such versions, and of those that are tried over what is stored, may take in memory at most,
/// beside `host-guest-memory`.
pub static SHADOW_MEMORY: Budget = budget("shadow-memory", Host, Bytes, 96 << 20, FIXED);
/// Inputs and live answers that wait to be compared.
pub static SHADOW_INPUT: Budget = budget("shadow-input", Host, Bytes, 32 << 20, FIXED);
/// What one source has waiting to be checked and stored, small submissions and those of a mebibyte or more each; 128 of them as
/// well.
pub static SOURCE_WAITING: Budget = budget("source-waiting", Installation, Bytes, 16 << 20, FIXED);
/// The same of a workspace; 512 of them as well.
pub static WORKSPACE_WAITING: Budget = budget("workspace-waiting", Workspace, Bytes, 64 << 20, FIXED);
/// The same of all workspaces together, in bytes alone.
pub static HOST_WAITING: Budget = budget("host-waiting", Host, Bytes, 128 << 20, FIXED);
/// Pages that an installation polls in one turn while more are waiting; then others come first.
pub static POLL_PAGES: Budget = budget("poll-pages", Installation, Items, 32, FIXED);
/// Requests for one page of a poll, over all its rounds.
pub static POLL_REQUESTS: Budget = budget("poll-requests", Call, Items, 16, FIXED);
/// Requests of all polls that are with their peers; a workspace has at most a quarter of them.
pub static POLL_REQUESTS_AT_ONCE: Budget = budget("poll-requests-at-once", Host, AtOnce, 256, FIXED);
/// Answers with their headers that one call of a poll is handed.
pub static POLL_ANSWERS: Budget = budget("poll-answers", Call, Bytes, 8 << 20, FIXED);
/// The least time between two polls of an installation; one that asks for less is refused.
pub static POLL_INTERVAL: Budget = budget("poll-interval", Installation, WallMs, 60_000, "poll.interval");
/// Places in a request that secrets fill in.
pub static SECRET_PLACES: Budget = budget("secret-places", Call, Items, 16, FIXED);
/// A mail of a channel with all that belongs to it, before it is written for the wire.
pub static MAIL_SIZE: Budget = budget("mail-size", Call, Bytes, 1 << 20, FIXED);
/// Key-value state of one installation.
pub static KV_KEPT: Budget = budget("kv-kept", Installation, Bytes, 16 << 20, "grants.kv_bytes");
/// Writes and deletions of one call; each is a commit.
pub static KV_CALL_COMMITS: Budget = budget("kv-call-commits", Call, Items, 1_000, FIXED);
/// Writes and deletions of one installation.
pub static KV_COMMITS: Budget = hourly("kv-commits", Installation, Items, 100_000, FIXED);
/// Keys and values that one installation writes, and keys that it deletes.
pub static KV_WRITTEN: Budget = hourly("kv-written", Installation, Bytes, 256 << 20, FIXED);

// Plugins and their configurations.

/// A component that is uploaded.
pub static COMPONENT_SIZE: Budget = budget("component-size", Request, Bytes, 8 << 20, "--plugin-bytes");
/// A manifest. The biggest of ours is 4 KiB.
pub static MANIFEST_TEXT: Budget = budget("manifest-text", Request, Bytes, 64 << 10, FIXED);
/// A text of a manifest that people read: a title, a description, a reason.
pub static MANIFEST_WORDS: Budget = budget("manifest-words", Request, Bytes, 2_048, FIXED);
/// The places of a schema, of a configuration or of an event, each reference counted as what it stands for and each pattern as the
/// states that it is compiled to.
pub static SCHEMA_SIZE: Budget = budget("schema-size", Request, Items, 4_096, FIXED);
/// A configuration, also with its defaults filled in.
pub static CONFIG_SIZE: Budget = budget("config-size", Request, Bytes, 64 << 10, FIXED);
/// Places of a configuration or of an event times places of its schema, and bytes of its texts times states of its patterns, 64 a
/// step: no check of it takes more steps.
pub static CONFIG_STEPS: Budget = budget("config-steps", Request, Steps, 500_000, FIXED);
/// Uploads and changes that wait for a compiler.
pub static COMPILES_WAITING: Budget = budget("compiles-waiting", Workspace, AtOnce, 8, FIXED);
/// Versions of plugins that are kept.
pub static PLUGINS_KEPT: Budget = budget("plugins-kept", Workspace, Kept, 500, FIXED);
/// Bytes of their components.
pub static PLUGIN_BYTES_KEPT: Budget = budget("plugin-bytes-kept", Workspace, Bytes, 512 << 20, FIXED);
/// Publishers who may sign plugins; the host has as many of its own.
pub static PUBLISHERS_KEPT: Budget = budget("publishers-kept", Workspace, Kept, 100, FIXED);
/// Bytes of what they are and of their keys.
pub static PUBLISHER_BYTES_KEPT: Budget = budget("publisher-bytes-kept", Workspace, Bytes, 256 << 10, FIXED);
/// Tracking plans.
pub static TRACKING_PLANS_KEPT: Budget = budget("tracking-plans-kept", Workspace, Kept, 200, FIXED);
/// Bytes of their documents: each schema in them is made ready and stays in memory.
pub static TRACKING_PLAN_BYTES_KEPT: Budget = budget("tracking-plan-bytes-kept", Workspace, Bytes, 4 << 20, FIXED);
/// Places of all their schemas, counted as `schema-size` counts them.
pub static TRACKING_PLAN_PLACES_KEPT: Budget = budget("tracking-plan-places-kept", Workspace, Kept, 131_072, FIXED);

// Texts of admins.

/// A title of a key, an audience or a workspace.
pub static TITLE_TEXT: Budget = budget("title-text", Request, Bytes, 256, FIXED);
/// A purpose of messages, as written and in lower case.
pub static PURPOSE_TEXT: Budget = budget("purpose-text", Request, Bytes, 64, FIXED);
/// A message's payload, as it is written in an audience.
pub static PAYLOAD_TEXT: Budget = budget("payload-text", Request, Bytes, 64 << 10, FIXED);
/// A secret of an installation: a key in PEM has room.
pub static SECRET_TEXT: Budget = budget("secret-text", Request, Bytes, 4 << 10, FIXED);

// Workspaces, and what each keeps.

/// Where a host key sets what a workspace may keep.
const OF_WORKSPACE: &str = "budgets of the workspace";

/// Workspaces that are not deleted.
pub static WORKSPACES_KEPT: Budget = budget("workspaces-kept", Host, Kept, 1_000, "--max-workspaces");
/// Audiences of one workspace.
pub static AUDIENCES_KEPT: Budget = budget("audiences-kept", Workspace, Kept, 1_000, OF_WORKSPACE);
/// Aggregates over events that the audiences and plugins of one workspace read, each once: an event is counted into those of its
/// name.
pub static AGGREGATES_KEPT: Budget = budget("aggregates-kept", Workspace, Kept, 5_000, OF_WORKSPACE);
/// Installations of one workspace.
pub static INSTALLATIONS_KEPT: Budget = budget("installations-kept", Workspace, Kept, 200, OF_WORKSPACE);
/// Keys of one workspace that are good.
pub static KEYS_KEPT: Budget = budget("keys-kept", Workspace, Kept, 1_000, OF_WORKSPACE);
/// Identifiers on the list of one workspace to which nothing is sent, in each of their forms.
pub static SUPPRESSIONS_KEPT: Budget = budget("suppressions-kept", Workspace, Kept, 5_000_000, OF_WORKSPACE);
/// Identifiers of one request that looks at that list or changes it.
pub static SUPPRESSIONS_SENT: Budget = budget("suppressions-sent", Request, Items, 10_000, FIXED);
/// What changes of settings and of that list write, with what the audit log keeps of them: the journal keeps all of it. The
/// last change may write more than was left, and keys can be revoked beyond it.
pub static SETTINGS_WRITTEN: Budget = hourly("settings-written", Workspace, Bytes, 1 << 30, OF_WORKSPACE);

/// What a host key may set for a workspace.
pub static OF_WORKSPACES: &[&Budget] =
    &[&AUDIENCES_KEPT, &AGGREGATES_KEPT, &INSTALLATIONS_KEPT, &KEYS_KEPT, &SUPPRESSIONS_KEPT, &SETTINGS_WRITTEN];

// What is set aside.

/// Rejected parts of one request that are kept with their bytes.
pub static REJECTED_PARTS: Budget = budget("rejected-parts", Request, Kept, 100, FIXED);
/// Rejected parts of one source that are kept, and of one page that it polls.
pub static REJECTED_KEPT: Budget = budget("rejected-kept", Installation, Kept, 10_000, FIXED);

/// Names of events, of their properties and of traits that a workspace counts, each by itself; the others together.
pub static NAMES_KEPT: Budget = budget("names-kept", Workspace, Kept, 5_000, FIXED);

/// All of them, in the order of the table in `SECURITY.md`.
pub static ALL: &[&Budget] = &[
    &CONNECTIONS,
    &PEER_CONNECTIONS,
    &PEER_REQUESTS,
    &FAILED_AUTHENTICATIONS,
    &PROMPT_REFUSALS,
    &CREDENTIAL_REQUESTS,
    &CREDENTIAL_MEMORY,
    &REQUEST_PROCESSOR,
    &EXPORTS_AT_ONCE,
    &SOURCE_BYTES,
    &IMPORT_MEMORY,
    &PROCESS_MEMORY,
    &INTAKE_MEMORY,
    &STRANGER_MEMORY,
    &CLIENT_BODY,
    &STRANGER_BODY,
    &STREAM_BODY,
    &JSON_BODY,
    &HEAD_TIME,
    &BODY_TIME,
    &EXPRESSION_TEXT,
    &EXPRESSION_STEPS,
    &EXPRESSION_BYTES,
    &QUESTIONS_WAITING,
    &QUESTION_TIME,
    &SEARCH_TRAITS,
    &GUEST_MEMORY,
    &GUEST_PROCESSOR,
    &GUEST_TIME,
    &FIT_PROCESSOR,
    &FIT_TIME,
    &FITS_KEPT,
    &GUEST_OUTPUT,
    &GUEST_LOG,
    &GUEST_LOG_KEPT,
    &GUEST_HOST_CALLS,
    &GUEST_REQUESTS,
    &GUEST_REQUESTS_SIZE,
    &GUEST_EVENTS,
    &GUEST_EVENT_BYTES,
    &PERSON_EVENTS,
    &HOST_GUEST_MEMORY,
    &GUEST_CALLS,
    &GUEST_CALLS_WAITING,
    &GUEST_INPUT_WAITING,
    &HOST_GUEST_INPUT_WAITING,
    &GUEST_QUEUE_TIME,
    &SHADOW_CALLS,
    &SHADOW_MEMORY,
    &SHADOW_INPUT,
    &SOURCE_WAITING,
    &WORKSPACE_WAITING,
    &HOST_WAITING,
    &POLL_PAGES,
    &POLL_REQUESTS,
    &POLL_REQUESTS_AT_ONCE,
    &POLL_ANSWERS,
    &POLL_INTERVAL,
    &SECRET_PLACES,
    &MAIL_SIZE,
    &KV_KEPT,
    &KV_CALL_COMMITS,
    &KV_COMMITS,
    &KV_WRITTEN,
    &COMPONENT_SIZE,
    &MANIFEST_TEXT,
    &MANIFEST_WORDS,
    &SCHEMA_SIZE,
    &CONFIG_SIZE,
    &CONFIG_STEPS,
    &COMPILES_WAITING,
    &PLUGINS_KEPT,
    &PLUGIN_BYTES_KEPT,
    &PUBLISHERS_KEPT,
    &PUBLISHER_BYTES_KEPT,
    &TRACKING_PLANS_KEPT,
    &TRACKING_PLAN_BYTES_KEPT,
    &TRACKING_PLAN_PLACES_KEPT,
    &TITLE_TEXT,
    &PURPOSE_TEXT,
    &PAYLOAD_TEXT,
    &SECRET_TEXT,
    &WORKSPACES_KEPT,
    &AUDIENCES_KEPT,
    &AGGREGATES_KEPT,
    &INSTALLATIONS_KEPT,
    &KEYS_KEPT,
    &SUPPRESSIONS_KEPT,
    &SUPPRESSIONS_SENT,
    &SETTINGS_WRITTEN,
    &REJECTED_PARTS,
    &REJECTED_KEPT,
    &NAMES_KEPT,
];
