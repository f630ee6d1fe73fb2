//! A setup compiled: expressions parsed, leaves shared, models in the order of their dependencies.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kith_features::{Expression, ExpressionError, FeatureName, LeafId, Program};
use kith_model::audience::Audience;
use kith_model::id::{AudienceId, InstallationId};
use kith_model::plugin::{ComputeModel, InputSpec};
use xxhash_rust::xxh3::xxh3_64;

use crate::setup::{Installed, Role, Setup};

/// Why a setup cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("input `{input}` of installation `{installation}`:\n{source}")]
    Input { installation: String, input: String, source: ExpressionError },
    #[error("the condition of audience `{audience}`:\n{source}")]
    Condition { audience: String, source: ExpressionError },
    #[error("installations `{one}` and `{other}` both write `{output}`; configure or disable one of them")]
    SameOutput { one: String, other: String, output: String },
    #[error("installations {} read each other's outputs in a circle", .installations.join(", "))]
    Circle { installations: Vec<String> },
    #[error("reading the workspace's state")]
    Read(#[from] kith_store::ReadError),
}

/// A tag model or scorer, ready to run.
pub(crate) struct ModelPlan {
    pub installed: Installed,
    pub model: Arc<dyn ComputeModel>,
    pub is_scorer: bool,
    pub inputs: Vec<(InputSpec, Expression)>,
    pub leaves: BTreeSet<LeafId>,
    pub uses_now: bool,
    /// Changes with anything that changes the model's results.
    pub token: u64,
}

/// An audience, ready to evaluate.
pub(crate) struct AudiencePlan {
    pub audience: Audience,
    pub condition: Expression,
    pub token: u64,
}

/// All that a workspace computes.
pub(crate) struct Plan {
    pub program: Program,
    /// Each after those whose outputs it reads.
    pub models: Vec<ModelPlan>,
    pub audiences: Vec<AudiencePlan>,
    /// Where a tag or score is found: which installation, which of its outputs.
    pub outputs: HashMap<FeatureName, (InstallationId, usize)>,
    pub source_names: HashMap<InstallationId, String>,
}

impl Plan {
    /// Compile a setup.
    pub(crate) fn new(setup: &Setup) -> Result<Plan, SetupError> {
        let mut models = Vec::new();
        let mut outputs = HashMap::new();
        for installed in &setup.installations {
            let (model, is_scorer) = match &installed.role {
                Role::TagModel(model) => (model, false),
                Role::Scorer(model) => (model, true),
                Role::Connector(_) | Role::Channel(_) => continue,
            };
            if !installed.activity.is_running() {
                continue;
            }
            claim_outputs(installed, is_scorer, &mut outputs, setup)?;
            models.push(ModelPlan::new(installed, Arc::clone(model), is_scorer)?);
        }
        let models = in_order(models, &outputs)?;
        let mut audiences = Vec::new();
        for audience in &setup.audiences {
            let condition = Expression::parse(&audience.condition)
                .map_err(|source| SetupError::Condition { audience: audience.name.to_string(), source })?;
            let token = xxh3_64(format!("audience {} {}", audience.id.0, audience.condition).as_bytes());
            audiences.push(AudiencePlan { audience: audience.clone(), condition, token });
        }
        let expressions = models.iter().flat_map(|model: &ModelPlan| model.inputs.iter().map(|(_, input)| input));
        let program = Program::new(expressions.chain(audiences.iter().map(|audience| &audience.condition)));
        let source_names = setup.source_names.clone().into_iter().collect();
        Ok(Plan { program, models, audiences, outputs, source_names })
    }

    /// What must have been computed for every profile before the plan is wholly in force.
    pub(crate) fn tokens(&self) -> BTreeSet<u64> {
        let models = self.models.iter().map(|model| model.token);
        models.chain(self.audiences.iter().map(|audience| audience.token)).collect()
    }

    /// The audiences' ids.
    pub(crate) fn audience_ids(&self) -> BTreeSet<AudienceId> {
        self.audiences.iter().map(|audience| audience.audience.id).collect()
    }
}

impl ModelPlan {
    fn new(installed: &Installed, model: Arc<dyn ComputeModel>, is_scorer: bool) -> Result<ModelPlan, SetupError> {
        let mut inputs = Vec::new();
        for input in &installed.inputs {
            let expression = Expression::parse(&input.expression).map_err(|source| SetupError::Input {
                installation: installed.name.to_string(),
                input: input.name.clone(),
                source,
            })?;
            inputs.push((input.clone(), expression));
        }
        let leaves = inputs.iter().flat_map(|(_, input)| input.reads().leaves.iter().copied()).collect();
        let uses_now = inputs.iter().any(|(_, input)| input.reads().uses_now);
        let fit = installed.fitted.as_ref().map_or(0, |fitted| fitted.version);
        let what = format!("model {} {} {} {fit}", installed.id.0, installed.digest, installed.config_hash);
        Ok(ModelPlan {
            installed: installed.clone(),
            model,
            is_scorer,
            inputs,
            leaves,
            uses_now,
            token: xxh3_64(what.as_bytes()),
        })
    }

    /// The fit in use; 0 for none.
    pub(crate) fn fit(&self) -> u32 {
        self.installed.fitted.as_ref().map_or(0, |fitted| fitted.version)
    }
}

fn claim_outputs(
    installed: &Installed,
    is_scorer: bool,
    outputs: &mut HashMap<FeatureName, (InstallationId, usize)>,
    setup: &Setup,
) -> Result<(), SetupError> {
    for (index, output) in installed.outputs.iter().enumerate() {
        let name = output.name.as_str().into();
        let feature = if is_scorer { FeatureName::Score(name) } else { FeatureName::Tag(name) };
        if let Some((other, _)) = outputs.insert(feature.clone(), (installed.id, index)) {
            let other = setup.installations.iter().find(|known| known.id == other);
            return Err(SetupError::SameOutput {
                one: other.map_or(String::new(), |other| other.name.to_string()),
                other: installed.name.to_string(),
                output: feature.to_string(),
            });
        }
    }
    Ok(())
}

/// The installations whose outputs a model reads.
fn dependencies(
    model: &ModelPlan,
    outputs: &HashMap<FeatureName, (InstallationId, usize)>,
) -> BTreeSet<InstallationId> {
    let mut needed = BTreeSet::new();
    for (_, input) in &model.inputs {
        let reads = input.reads();
        let tags = reads.tags.iter().map(|name| FeatureName::Tag(name.as_str().into()));
        let scores = reads.scores.iter().map(|name| FeatureName::Score(name.as_str().into()));
        needed.extend(tags.chain(scores).filter_map(|feature| outputs.get(&feature).map(|(id, _)| *id)));
    }
    needed
}

/// Sort models so that each comes after those it reads; ties by installation.
fn in_order(
    models: Vec<ModelPlan>,
    outputs: &HashMap<FeatureName, (InstallationId, usize)>,
) -> Result<Vec<ModelPlan>, SetupError> {
    let mut waiting: BTreeMap<InstallationId, (BTreeSet<InstallationId>, ModelPlan)> =
        models.into_iter().map(|model| (model.installed.id, (dependencies(&model, outputs), model))).collect();
    let mut ordered = Vec::new();
    while !waiting.is_empty() {
        let is_free = |needed: &BTreeSet<InstallationId>| !needed.iter().any(|id| waiting.contains_key(id));
        let next = waiting.iter().find(|(_, (needed, _))| is_free(needed)).map(|(id, _)| *id);
        match next.and_then(|id| waiting.remove(&id)) {
            Some((_, model)) => ordered.push(model),
            None => {
                let installations = waiting.values().map(|(_, model)| model.installed.name.to_string()).collect();
                return Err(SetupError::Circle { installations });
            }
        }
    }
    Ok(ordered)
}
