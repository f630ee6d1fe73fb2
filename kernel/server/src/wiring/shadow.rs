//! The version that runs beside an installation's live one, or is tried over what is stored: bound to no more than the live one
//! has, and to nothing by which anything would leave.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_model::budget::table;
use kith_model::plugin::{Grants, InputSpec};
use kith_model::time::Timestamp;
use kith_pipeline::{BacktestKey, Role, ShadowVersion, backtest_has_ended, shadow_inputs};

use super::roles::Part;
use super::{Loading, Source, Wiring, WiringError, config_hash, held_by_sensitivity, inputs, unavailable};
use crate::catalogue::{BacktestRow, InstallationRow, PluginRow, ShadowRow, WorkspaceTables};
use crate::fitting;

/// Why a version cannot run beside the live one of an installation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ShadowProblem {
    #[error(
        "it reads `{0}` by an expression that the live version does not have; a shadow is given what the live one is given"
    )]
    OtherInput(String),
    #[error("it has no fit: the live one's is of another form of state, and a shadow is never fitted")]
    NoFit,
    #[error(
        "a call of it may take {asked} bytes of memory, and {limit} are there for shadows; grant `limits.memory_bytes` less"
    )]
    Memory { asked: u64, limit: u64 },
}

/// The installation as its shadow would have it: with what leaves the server taken away.
fn as_shadow(row: &InstallationRow, shadow: &ShadowRow) -> InstallationRow {
    InstallationRow {
        version: shadow.version.clone(),
        config: shadow.config.clone(),
        unshown: shadow.unshown.clone(),
        grants: within(row),
        ..row.clone()
    }
}

/// The same as the version that is tried over what is stored would have it.
fn as_tried(row: &InstallationRow, backtest: &BacktestRow) -> InstallationRow {
    InstallationRow {
        version: backtest.version.clone(),
        config: backtest.config.clone(),
        grants: within(row),
        ..row.clone()
    }
}

/// What an installation is granted, but for what leaves the server.
fn within(row: &InstallationRow) -> Grants {
    Grants { http: Vec::new(), networks: Vec::new(), ..row.grants.clone() }
}

impl Wiring {
    /// What runs beside an installation; nothing where that cannot run now.
    ///
    /// # Errors
    /// For one that begins.
    pub(super) fn shadow(
        &self,
        source: Source<'_>,
        row: &InstallationRow,
        live: &[InputSpec],
        loading: Loading<'_>,
    ) -> Result<Option<Arc<ShadowVersion>>, WiringError> {
        let Some((wanted, plugin)) = row.shadow.as_ref().zip(source.tables.shadow_of(row)) else { return Ok(None) };
        let shadowed = as_shadow(row, wanted);
        if let Some(problem) = self.shadow_problem(source.tables, live, (&shadowed, plugin)) {
            tracing::warn!(installation = %row.name, version = %wanted.version, %problem, "a shadow does not run");
            return Ok(None);
        }
        self.uncounted(source, &shadowed, (plugin, Part::Shadow, wanted.since), loading)
    }

    /// What is tried over what is stored of an installation; nothing where that cannot run now.
    ///
    /// # Errors
    /// For one that begins.
    pub(super) fn backtest(
        &self,
        source: Source<'_>,
        row: &InstallationRow,
        loading: Loading<'_>,
    ) -> Result<Option<Arc<ShadowVersion>>, WiringError> {
        let Some((wanted, plugin)) = row.backtest.as_ref().zip(source.tables.backtest_of(row)) else { return Ok(None) };
        let tried = as_tried(row, wanted);
        if self.has_ended(source.tables, row, (wanted, plugin)) {
            if !loading.is_on_paper() {
                self.made.lock().remove(&(source.tables.row.id, row.id, Part::Backtest));
            }
            let why = "the backtest has ended".to_owned();
            let role = unavailable::role(plugin.manifest.kind, why);
            return Ok(Some(self.version(&tried, plugin, wanted.since, role)));
        }
        let problem = self.problem(source.tables, (&tried, plugin)).map(|problem| problem.to_string());
        let problem = problem.or_else(|| held_by_sensitivity(source.tables, &tried, plugin).map(|held| held.why));
        if let Some(problem) = problem {
            tracing::warn!(installation = %row.name, version = %wanted.version, problem, "a backtest does not run");
            return Ok(None);
        }
        self.uncounted(source, &tried, (plugin, Part::Backtest, wanted.since), loading)
    }

    /// A version of which nothing counts, bound to what the installation would be with it.
    fn uncounted(
        &self,
        source: Source<'_>,
        row: &InstallationRow,
        (plugin, part, since): (&PluginRow, Part, Timestamp),
        loading: Loading<'_>,
    ) -> Result<Option<Arc<ShadowVersion>>, WiringError> {
        // Whoever begins it is told why it cannot run. From then on it is in nobody's way.
        let nobody = BTreeSet::new();
        let must_run = if since == source.now { source.must_run } else { &nobody };
        let role = match self.make(Source { must_run, ..source }, row, (plugin, part), loading)? {
            Ok(role) => role,
            Err(_) => return Ok(None),
        };
        Ok(Some(self.version(row, plugin, since, role)))
    }

    fn version(&self, row: &InstallationRow, plugin: &PluginRow, since: Timestamp, role: Role) -> Arc<ShadowVersion> {
        let policy = self.effective_policy(&plugin.manifest, &row.grants);
        Arc::new(ShadowVersion {
            plugin_version: row.version.clone(),
            digest: plugin.digest.clone(),
            config_hash: config_hash(row),
            since,
            inputs: inputs(row, &plugin.manifest).unwrap_or_default(),
            outputs: plugin.manifest.outputs.clone(),
            call_memory_bytes: policy.memory_bytes.value.saturating_add(policy.output_bytes.value),
            role,
        })
    }

    /// What is tried of an installation and is not known yet, which has to be loaded.
    pub(super) fn under_way<'t>(
        &self,
        tables: &'t WorkspaceTables,
        row: &InstallationRow,
    ) -> Option<&'t Arc<PluginRow>> {
        let plugin = tables.backtest_of(row)?;
        let wanted = row.backtest.as_ref()?;
        (!self.has_ended(tables, row, (wanted, plugin))).then_some(plugin)
    }

    /// Whether all is known of what is tried of an installation.
    fn has_ended(
        &self,
        tables: &WorkspaceTables,
        row: &InstallationRow,
        (wanted, plugin): (&BacktestRow, &PluginRow),
    ) -> bool {
        let config_hash = config_hash(&as_tried(row, wanted));
        let of = BacktestKey { digest: plugin.digest.clone(), config_hash, since: wanted.since };
        backtest_has_ended(self.store.as_ref(), tables.row.id, row.id, &of)
    }

    /// Why a version cannot run beside the live one as the installation is.
    pub(crate) fn refuses_shadow(
        &self,
        tables: &WorkspaceTables,
        row: &InstallationRow,
        shadow: &ShadowRow,
        (live, plugin): (&PluginRow, &PluginRow),
    ) -> Option<ShadowProblem> {
        // Inputs that cannot be filled in are refused by name where it is made.
        let live = inputs(row, &live.manifest).unwrap_or_default();
        self.shadow_problem(tables, &live, (&as_shadow(row, shadow), plugin))
    }

    /// Why a version cannot be tried over what is stored as the installation is, but for what it would see.
    pub(crate) fn refuses_backtest(
        &self,
        tables: &WorkspaceTables,
        row: &InstallationRow,
        backtest: &BacktestRow,
        plugin: &PluginRow,
    ) -> Option<ShadowProblem> {
        self.problem(tables, (&as_tried(row, backtest), plugin))
    }

    fn shadow_problem(
        &self,
        tables: &WorkspaceTables,
        live: &[InputSpec],
        (shadowed, plugin): (&InstallationRow, &PluginRow),
    ) -> Option<ShadowProblem> {
        let wanted = inputs(shadowed, &plugin.manifest).unwrap_or_default();
        let is_other = |input: &&InputSpec| shadow_inputs(live, std::slice::from_ref(*input)).is_none();
        match self.problem(tables, (shadowed, plugin)) {
            Some(ShadowProblem::NoFit) => Some(ShadowProblem::NoFit),
            problem => match wanted.iter().find(is_other) {
                Some(other) => Some(ShadowProblem::OtherInput(other.name.clone())),
                None => problem,
            },
        }
    }

    /// What stands against a version of which nothing counts, whatever it reads.
    fn problem(
        &self,
        tables: &WorkspaceTables,
        (row, plugin): (&InstallationRow, &PluginRow),
    ) -> Option<ShadowProblem> {
        if !fitting::reads_its_fit(tables, row, &plugin.manifest) {
            return Some(ShadowProblem::NoFit);
        }
        let policy = self.effective_policy(&plugin.manifest, &row.grants);
        let (asked, limit) =
            (policy.memory_bytes.value.saturating_add(policy.output_bytes.value), table::SHADOW_MEMORY.default);
        (asked > limit).then_some(ShadowProblem::Memory { asked, limit })
    }
}

#[cfg(test)]
mod tests {
    use kith_model::plugin::PluginKind;
    use kith_model::table::ColumnType;
    use serde_json::json;

    use super::*;
    use crate::api::tests::installations::plugin_row;
    use crate::api::tests::{FIRST, installation_row};
    use crate::catalogue::{Actor, FitCause, FitRow, FitStatus, UnshownRow};
    use crate::serve::tests::server;

    fn shadow() -> ShadowRow {
        ShadowRow {
            version: semver::Version::new(2, 0, 0),
            config: json!({}),
            unshown: UnshownRow::default(),
            since: Timestamp(0),
        }
    }

    #[test]
    fn a_shadow_has_nothing_by_which_anything_would_leave() {
        let grants = Grants {
            http: vec!["a.example".to_owned()],
            networks: vec!["10.1.0.0/16".to_owned()],
            kv_bytes: 7,
            ..Grants::default()
        };
        let row = InstallationRow { grants, ..installation_row(902, "level") };
        let shadowed = as_shadow(&row, &shadow());
        assert_eq!(shadowed.grants, Grants { kv_bytes: 7, ..Grants::default() });
        assert_eq!((shadowed.version, shadowed.config), (shadow().version, shadow().config));
        assert_eq!(shadowed.id, row.id);
        let backtest = BacktestRow { version: shadow().version, config: json!({ "a": 1 }), since: Timestamp(0) };
        let tried = as_tried(&row, &backtest);
        assert_eq!(tried.grants, Grants { kv_bytes: 7, ..Grants::default() });
        assert_eq!((tried.version, tried.config), (backtest.version, backtest.config));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_shadow_reads_the_live_fit_and_inputs_of_the_live_version_or_is_refused() {
        let server = server();
        let row = InstallationRow { fit: Some(1), ..installation_row(902, "level") };
        let fit = FitRow {
            installation: row.id,
            version: 1,
            status: FitStatus::Succeeded,
            cause: FitCause::Asked,
            plugin_version: row.version.clone(),
            digest: String::new(),
            state_version: Some(1),
            started_at: Timestamp(0),
            finished_at: Some(Timestamp(1)),
            rows: Some(1),
            inputs: Vec::new(),
            metrics: Vec::new(),
            state_bytes: 1,
            error: None,
            held_out: None,
        };
        let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
        change.put_fit(fit);
        drop(change.commit().unwrap());
        let tables = server.app().catalogue.workspace(FIRST).unwrap();
        let version = |state_version: u32, expression: &str| {
            let mut plugin = plugin_row("level", PluginKind::TagModel);
            plugin.manifest.state_version = Some(state_version);
            plugin.manifest.inputs = vec![InputSpec {
                name: "city".to_owned(),
                expression: expression.to_owned(),
                column_type: ColumnType::Text,
                reason: String::new(),
            }];
            plugin
        };
        let live = version(1, "traits.city");
        let problem = |next: &PluginRow| server.app().wiring.refuses_shadow(&tables, &row, &shadow(), (&live, next));
        assert_eq!(problem(&version(1, "traits.city")), None);
        assert_eq!(problem(&version(2, "traits.city")), Some(ShadowProblem::NoFit));
        assert_eq!(problem(&version(1, "traits.name")), Some(ShadowProblem::OtherInput("city".to_owned())));
        let tried = BacktestRow { version: shadow().version, config: json!({}), since: Timestamp(0) };
        let backtest = |next: &PluginRow| server.app().wiring.refuses_backtest(&tables, &row, &tried, next);
        assert_eq!(backtest(&version(1, "traits.name")), None, "what it reads is read from what is stored");
        assert_eq!(backtest(&version(2, "traits.city")), Some(ShadowProblem::NoFit));
    }
}
