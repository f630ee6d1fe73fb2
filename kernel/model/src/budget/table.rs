//! The table of all budgets. `SECURITY.md` shows it, and a test exhausts each entry.

use std::time::Duration;

use super::BudgetOwner::{Call, Evaluation, Host, Installation, Peer, Request, Workspace};
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

/// One that comes back within an hour.
#[allow(dead_code, reason = "for budgets that are spent over an hour")]
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
pub static CONNECTIONS: Budget = budget("connections", Host, AtOnce, 4_096, FIXED);
/// Connections of one address at once.
pub static PEER_CONNECTIONS: Budget = budget("peer-connections", Peer, AtOnce, 1_024, FIXED);
/// Bodies of client requests in memory together.
pub static INTAKE_MEMORY: Budget = budget("intake-memory", Host, Bytes, 256 << 20, FIXED);
/// The same of senders that do not say in the head who they are.
pub static STRANGER_MEMORY: Budget = budget("stranger-memory", Host, Bytes, 16 << 20, FIXED);
/// A client request's body, as sent and as decoded.
pub static CLIENT_BODY: Budget = budget("client-body", Request, Bytes, 10 << 20, FIXED);
/// A JSON body of the admin API.
pub static JSON_BODY: Budget = budget("json-body", Request, Bytes, 1 << 20, FIXED);
/// Until a request's head is there.
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

// Guests.

/// All memories of one call.
pub static GUEST_MEMORY: Budget = budget("guest-memory", Call, Bytes, 64 << 20, "grants.limits.memory_bytes");
/// Processor time of one call.
pub static GUEST_PROCESSOR: Budget = budget("guest-processor", Call, ProcessorMs, 2_000, "grants.limits.cpu_ms");
/// Time of one call, host calls included.
pub static GUEST_TIME: Budget = budget("guest-time", Call, WallMs, 30_000, "grants.limits.wall_ms");
/// What a guest hands to the host at once.
pub static GUEST_OUTPUT: Budget = budget("guest-output", Call, Bytes, 16 << 20, "grants.limits.output_bytes");
/// What one call may log.
pub static GUEST_LOG: Budget = budget("guest-log", Call, Bytes, 64 << 10, "grants.limits.log_bytes");
/// Host calls of one call.
pub static GUEST_HOST_CALLS: Budget = budget("guest-host-calls", Call, Items, 10_000, "grants.limits.host_calls");
/// Calls of one installation that wait for a thread.
pub static GUEST_CALLS_WAITING: Budget = budget("guest-calls-waiting", Installation, AtOnce, 64, FIXED);
/// Places in a request that secrets fill in.
pub static SECRET_PLACES: Budget = budget("secret-places", Call, Items, 16, FIXED);
/// Key-value state of one installation.
pub static KV_KEPT: Budget = budget("kv-kept", Installation, Bytes, 16 << 20, "grants.limits.kv_bytes");

// Workspaces, and what each keeps.

/// Where a host key sets what a workspace may keep.
const OF_WORKSPACE: &str = "budgets of the workspace";

/// Workspaces that are not deleted.
pub static WORKSPACES_KEPT: Budget = budget("workspaces-kept", Host, Kept, 1_000, "--max-workspaces");
/// Audiences of one workspace.
pub static AUDIENCES_KEPT: Budget = budget("audiences-kept", Workspace, Kept, 1_000, OF_WORKSPACE);
/// Installations of one workspace.
pub static INSTALLATIONS_KEPT: Budget = budget("installations-kept", Workspace, Kept, 200, OF_WORKSPACE);
/// Keys of one workspace that are good.
pub static KEYS_KEPT: Budget = budget("keys-kept", Workspace, Kept, 1_000, OF_WORKSPACE);

/// What a host key may set for a workspace.
pub static OF_WORKSPACES: &[&Budget] = &[&AUDIENCES_KEPT, &INSTALLATIONS_KEPT, &KEYS_KEPT];

// What is set aside.

/// Rejected parts of one request that are kept with their bytes.
pub static REJECTED_PARTS: Budget = budget("rejected-parts", Request, Kept, 100, FIXED);
/// Rejected parts of one source that are kept.
pub static REJECTED_KEPT: Budget = budget("rejected-kept", Installation, Kept, 10_000, FIXED);

/// All of them, in the order of the table in `SECURITY.md`.
pub static ALL: &[&Budget] = &[
    &CONNECTIONS,
    &PEER_CONNECTIONS,
    &INTAKE_MEMORY,
    &STRANGER_MEMORY,
    &CLIENT_BODY,
    &JSON_BODY,
    &HEAD_TIME,
    &BODY_TIME,
    &EXPRESSION_TEXT,
    &EXPRESSION_STEPS,
    &EXPRESSION_BYTES,
    &QUESTIONS_WAITING,
    &QUESTION_TIME,
    &GUEST_MEMORY,
    &GUEST_PROCESSOR,
    &GUEST_TIME,
    &GUEST_OUTPUT,
    &GUEST_LOG,
    &GUEST_HOST_CALLS,
    &GUEST_CALLS_WAITING,
    &SECRET_PLACES,
    &KV_KEPT,
    &WORKSPACES_KEPT,
    &AUDIENCES_KEPT,
    &INSTALLATIONS_KEPT,
    &KEYS_KEPT,
    &REJECTED_PARTS,
    &REJECTED_KEPT,
];
