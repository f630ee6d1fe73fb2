//! A setup compiled: expressions parsed, leaves shared, models in the order of their dependencies, and who reads what.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kith_features::{
    Expression, ExpressionError, FeatureName, LeafId, LeafState, MEANING, NoFacts, Program, Reach, SharedParts, Value,
    Zone,
};
use kith_model::audience::Audience;
use kith_model::id::{AudienceId, InstallationId};
use kith_model::identity::IdentityRules;
use kith_model::plugin::{ComputeModel, InputSpec};
use kith_model::time::Timestamp;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::fit::training::TrainingPlan;
use crate::rows::derived::{ModelVersion, OutputKind};
use crate::setup::{Installed, Role, Setup, Undo, Undone};

/// Why a setup cannot run.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("input `{input}` of installation `{installation}`:\n{source}")]
    Input { installation: String, input: String, source: ExpressionError },
    #[error("the label of installation `{installation}`:\n{source}")]
    Label { installation: String, source: ExpressionError },
    #[error("the condition of audience `{audience}`:\n{source}")]
    Condition { audience: String, source: ExpressionError },
    #[error("installations `{one}` and `{other}` both write `{output}`; configure one of them otherwise, or remove it")]
    SameOutput { one: String, other: String, output: String },
    #[error("installations {} read each other's outputs in a circle", .installations.join(", "))]
    Circle { installations: Vec<String> },
}

/// Something that has to be done for every profile once, named by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Take back what a removed installation wrote. First, so that nothing is computed from it any more.
    Retract(InstallationId),
    /// Run a model as it is now: its version, configuration, fit and inputs.
    Model(InstallationId, u64),
    /// Evaluate a condition as it is now.
    Audience(AudienceId, u64),
    /// Take back what a version of a model wrote, by the number of the [`Undo`].
    Undo(u32),
}

/// A tag model or scorer. It is in the plan until it is removed, whether it runs or not.
pub(crate) struct ModelPlan {
    pub installed: Installed,
    pub model: Arc<dyn ComputeModel>,
    pub kind: OutputKind,
    pub inputs: Vec<(InputSpec, Expression)>,
    /// How it learns from the history; `None` for what learns from now alone.
    pub training: Option<TrainingPlan>,
    /// Whether an input reads `now`: such a model runs again every day.
    pub uses_now: bool,
    /// Changes with anything that changes the model's results.
    pub token: u64,
}

/// An audience, ready to evaluate.
pub(crate) struct AudiencePlan {
    pub audience: Audience,
    pub condition: Expression,
    pub token: u64,
    /// The models whose outputs decide it, directly or through other models.
    pub models: BTreeSet<InstallationId>,
}

/// A channel's declared inputs.
pub(crate) struct ChannelPlan {
    pub id: InstallationId,
    pub inputs: Vec<(InputSpec, Expression)>,
}

/// All that a workspace computes.
pub(crate) struct Plan {
    /// The zone that its expressions were parsed in.
    context: String,
    pub program: Program,
    /// Each after those whose outputs it reads.
    pub models: Vec<ModelPlan>,
    /// By id.
    pub audiences: Vec<AudiencePlan>,
    pub channels: Vec<ChannelPlan>,
    /// What several audiences have in their conditions.
    pub shared: SharedParts,
    /// Where a tag or score is found: which installation, which of its outputs.
    pub outputs: HashMap<FeatureName, (InstallationId, usize)>,
    pub source_names: HashMap<InstallationId, String>,
    /// From what changed to the places in `audiences` that may change with it.
    pub audience_reach: Reach,
    /// The same for `models`.
    pub model_reach: Reach,
    /// Tags and scores that something reads and nothing writes: they are null for everybody.
    pub unwritten: BTreeSet<FeatureName>,
    /// The places in `audiences` whose condition may be otherwise than false for somebody of whom nothing is known: every new
    /// person has to be looked at for these.
    pub of_everybody: Vec<u32>,
    /// By which spellings of an identifier are one.
    pub identity_rules: IdentityRules,
    /// What of models is taken back.
    pub undos: Vec<Undo>,
}

/// The number of a place in a list of the plan.
fn place(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

impl Plan {
    /// Compile a setup.
    #[cfg(test)]
    pub(crate) fn new(setup: &Setup) -> Result<Plan, SetupError> {
        Plan::after(setup, &[])
    }

    /// Compile a setup, with the expressions that earlier plans have parsed already: a change touches one of hundreds, and
    /// parsing takes most of the time.
    pub(crate) fn after(setup: &Setup, earlier: &[&Plan]) -> Result<Plan, SetupError> {
        let context = &Parsing::new(setup.zone.name(), earlier);
        let mut outputs = HashMap::new();
        let (mut models, mut channels) = (Vec::new(), Vec::new());
        // Those that are wanted first: where one that is held writes the same, it counts as removed.
        let (wanted, held): (Vec<_>, Vec<_>) =
            setup.installations.iter().partition(|installed| installed.activity.is_wanted());
        for installed in wanted.into_iter().chain(held) {
            let (model, kind) = match &installed.role {
                Role::TagModel(model) => (model, OutputKind::Tags),
                Role::Scorer(model) => (model, OutputKind::Scores),
                Role::Channel(_) | Role::PureChannel(_) => {
                    channels.push(ChannelPlan { id: installed.id, inputs: inputs(installed, context)? });
                    continue;
                }
                Role::Connector(_) => continue,
            };
            match claim_outputs(installed, kind, &mut outputs, setup) {
                Err(SetupError::SameOutput { .. }) if !installed.activity.is_wanted() => continue,
                claimed => claimed?,
            }
            models.push(ModelPlan::new(installed, Arc::clone(model), kind, context)?);
        }
        let models = in_order(models, &outputs)?;
        let mut audiences = Vec::new();
        for audience in &setup.audiences {
            let condition = (context.expression(&audience.condition))
                .map_err(|source| SetupError::Condition { audience: audience.name.to_string(), source })?;
            let wave = if audience.waves > 0 { format!(" wave {}", audience.waves) } else { String::new() };
            let text = &audience.condition;
            let token = xxh3_64(format!("{MEANING} {} {text}{wave}", context.zone).as_bytes());
            let models = deciding(&condition, &models, &outputs);
            audiences.push(AudiencePlan { audience: audience.clone(), condition, token, models });
        }
        audiences.sort_by_key(|plan| plan.audience.id);
        let source_names = setup.source_names.iter().map(|(id, name)| (*id, name.clone())).collect();
        let plan = assemble(models, audiences, channels, outputs, source_names);
        let (context, identity_rules) = (context.zone.to_owned(), setup.identity_rules.clone());
        let undos = setup.undos.iter().filter(|undo| undo.of == Undone::Values).cloned().collect();
        Ok(Plan { context, identity_rules, undos, ..plan })
    }

    /// Every expression of the plan.
    fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let of_models = self.models.iter().flat_map(|model| &model.inputs);
        let of_channels = self.channels.iter().flat_map(|channel| &channel.inputs);
        let inputs = of_models.chain(of_channels).map(|(_, expression)| expression);
        inputs.chain(self.audiences.iter().map(|audience| &audience.condition))
    }

    /// What must have been done for every profile before the plan is wholly in force.
    pub(crate) fn tasks(&self) -> BTreeSet<Task> {
        let models = self.models.iter().map(|model| Task::Model(model.installed.id, model.token));
        models.chain(self.audiences.iter().map(AudiencePlan::task)).collect()
    }

    /// What is taken back under that number.
    pub(crate) fn undo(&self, number: u32) -> Option<&Undo> {
        self.undos.iter().find(|undo| undo.number == number)
    }

    /// The audience of that id.
    pub(crate) fn audience(&self, id: AudienceId) -> Option<&AudiencePlan> {
        let found = self.audiences.binary_search_by_key(&id, |plan| plan.audience.id).ok()?;
        self.audiences.get(found)
    }

    /// The place of an audience in the plan.
    pub(crate) fn audience_place(&self, id: AudienceId) -> Option<u32> {
        self.audiences.binary_search_by_key(&id, |plan| plan.audience.id).ok().map(place)
    }

    /// The models that are asked about people for the sake of an expression: those whose outputs it reads, directly or
    /// through other models. Of one that does not run, what it wrote counts, whatever becomes of what it reads.
    pub(crate) fn asked_for(&self, expression: &Expression) -> Vec<&ModelPlan> {
        let mut needed = makers(expression, &self.outputs);
        let mut asked = Vec::new();
        for model in self.models.iter().rev().filter(|model| model.installed.activity.is_running()) {
            if needed.contains(&model.installed.id) {
                model.inputs.iter().for_each(|(_, input)| needed.extend(makers(input, &self.outputs)));
                asked.push(model);
            }
        }
        asked
    }

    /// Whether a model reads tags or scores that nothing writes.
    pub(crate) fn reads_unwritten(&self, model: &ModelPlan) -> bool {
        let mut read = model.inputs.iter().flat_map(|(_, input)| outputs_read(input));
        read.any(|feature| self.unwritten.contains(&feature))
    }

    /// The model of that installation, and its place in the plan.
    pub(crate) fn model(&self, id: InstallationId) -> Option<(u32, &ModelPlan)> {
        let index = self.models.iter().position(|model| model.installed.id == id)?;
        Some((place(index), &self.models[index]))
    }
}

/// Parses expressions in a zone, those that were parsed in it before excepted.
struct Parsing<'p> {
    zone: &'p str,
    parsed: HashMap<&'p str, &'p Expression>,
}

impl<'p> Parsing<'p> {
    fn new(zone: &'p str, earlier: &[&'p Plan]) -> Parsing<'p> {
        let same_zone = earlier.iter().filter(|plan| plan.context == zone);
        let parsed = same_zone.flat_map(|plan| plan.expressions()).map(|expression| (expression.text(), expression));
        Parsing { zone, parsed: parsed.collect() }
    }

    fn expression(&self, text: &str) -> Result<Expression, ExpressionError> {
        match self.parsed.get(text) {
            Some(parsed) => Ok(Expression::clone(parsed)),
            None => Expression::parse_in(text, self.zone),
        }
    }
}

impl AudiencePlan {
    /// The work that the audience needs before its size is known.
    pub(crate) fn task(&self) -> Task {
        Task::Audience(self.audience.id, self.token)
    }
}

fn assemble(
    models: Vec<ModelPlan>,
    audiences: Vec<AudiencePlan>,
    channels: Vec<ChannelPlan>,
    outputs: HashMap<FeatureName, (InstallationId, usize)>,
    source_names: HashMap<InstallationId, String>,
) -> Plan {
    let of_models = || models.iter().flat_map(|model| model.inputs.iter().map(|(_, input)| input));
    let of_channels = channels.iter().flat_map(|channel| channel.inputs.iter().map(|(_, input)| input));
    let conditions = audiences.iter().map(|audience| &audience.condition);
    let program = Program::new(of_models().chain(of_channels).chain(conditions));
    let audience_reach = Reach::new((0..).zip(audiences.iter().map(|audience| &audience.condition)));
    let readers = models.iter().enumerate();
    let readers = readers.flat_map(|(index, model)| model.inputs.iter().map(move |(_, input)| (place(index), input)));
    let model_reach = Reach::new(readers);
    let shared = SharedParts::among(audiences.iter().map(|audience| &audience.condition));
    let open = audiences.iter().enumerate().filter(|(_, plan)| is_of_everybody(&plan.condition, &program));
    let of_everybody = open.map(|(index, _)| place(index)).collect();
    let read = of_models().chain(audiences.iter().map(|audience| &audience.condition)).flat_map(outputs_read);
    let unwritten = read.filter(|feature| !outputs.contains_key(feature)).collect();
    Plan {
        context: String::new(),
        program,
        models,
        audiences,
        channels,
        shared,
        outputs,
        source_names,
        audience_reach,
        model_reach,
        unwritten,
        of_everybody,
        identity_rules: IdentityRules::default(),
        undos: Vec::new(),
    }
}

/// Whether a condition may be otherwise than false for somebody of whom nothing is known: it may hold, or pass the budget of one
/// evaluation before that is known.
fn is_of_everybody(condition: &Expression, program: &Program) -> bool {
    let nothing = |id: LeafId| {
        program.leaf(id).map_or(Value::Null, |leaf| leaf.value_of::<LeafState>(&[], Timestamp(0), &Zone::utc()))
    };
    let is_not_false = |value: Option<Value>| value.is_none_or(|value| value.is_true());
    condition.reads().uses_now || is_not_false(condition.evaluate_within(&NoFacts, &nothing, Timestamp(0)))
}

fn inputs(installed: &Installed, context: &Parsing<'_>) -> Result<Vec<(InputSpec, Expression)>, SetupError> {
    let parsed = installed.inputs.iter().map(|input| {
        let expression = context.expression(&input.expression).map_err(|source| SetupError::Input {
            installation: installed.name.to_string(),
            input: input.name.clone(),
            source,
        })?;
        Ok((input.clone(), expression))
    });
    parsed.collect()
}

impl ModelPlan {
    fn new(
        installed: &Installed,
        model: Arc<dyn ComputeModel>,
        kind: OutputKind,
        context: &Parsing<'_>,
    ) -> Result<ModelPlan, SetupError> {
        let inputs = inputs(installed, context)?;
        let uses_now = inputs.iter().any(|(_, input)| input.reads().uses_now);
        let fit = installed.fitted.as_ref().map_or(0, |fitted| fitted.version);
        let zone = context.zone;
        let what = format!("{MEANING} {zone} {} {} {} {fit}", installed.id.0, installed.digest, installed.config_hash);
        let token = xxh3_64(what.as_bytes());
        let training = match &installed.training {
            Some(training) => {
                let label = context
                    .expression(&training.label)
                    .map_err(|source| SetupError::Label { installation: installed.name.to_string(), source })?;
                Some(TrainingPlan::new(training, &inputs, label))
            }
            None => None,
        };
        Ok(ModelPlan { installed: installed.clone(), model, kind, inputs, training, uses_now, token })
    }

    /// What its values are of.
    pub(crate) fn version(&self) -> ModelVersion {
        ModelVersion {
            installation: self.installed.id,
            digest: self.installed.digest.clone(),
            config_hash: self.installed.config_hash,
            fit: self.installed.fitted.as_ref().map_or(0, |fitted| fitted.version),
            kind: self.kind,
            outputs: self.installed.outputs.iter().map(|output| output.name.clone()).collect(),
        }
    }

    /// The feature that an output is.
    pub(crate) fn feature(&self, output: &str) -> FeatureName {
        feature(self.kind, output)
    }

    /// The leaves that its inputs read.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = LeafId> {
        self.inputs.iter().flat_map(|(_, input)| input.reads().leaves.iter().copied())
    }
}

/// The feature that an output of a kind of model is.
pub(crate) fn feature(kind: OutputKind, output: &str) -> FeatureName {
    match kind {
        OutputKind::Tags => FeatureName::Tag(output.into()),
        OutputKind::Scores => FeatureName::Score(output.into()),
    }
}

fn claim_outputs(
    installed: &Installed,
    kind: OutputKind,
    outputs: &mut HashMap<FeatureName, (InstallationId, usize)>,
    setup: &Setup,
) -> Result<(), SetupError> {
    let claimed: Vec<FeatureName> = installed.outputs.iter().map(|output| feature(kind, &output.name)).collect();
    if let Some((output, other)) = claimed.iter().find_map(|output| Some((output, outputs.get(output)?.0))) {
        return Err(SetupError::SameOutput {
            one: setup.installation(other).map_or(String::new(), |other| other.name.to_string()),
            other: installed.name.to_string(),
            output: output.to_string(),
        });
    }
    outputs.extend(claimed.into_iter().enumerate().map(|(index, output)| (output, (installed.id, index))));
    Ok(())
}

/// The tags and scores that an expression reads.
fn outputs_read(expression: &Expression) -> impl Iterator<Item = FeatureName> {
    let reads = expression.reads();
    let tags = reads.tags.iter().map(|name| FeatureName::Tag(name.as_str().into()));
    tags.chain(reads.scores.iter().map(|name| FeatureName::Score(name.as_str().into())))
}

/// The installations whose outputs an expression reads.
fn makers(
    expression: &Expression,
    outputs: &HashMap<FeatureName, (InstallationId, usize)>,
) -> BTreeSet<InstallationId> {
    outputs_read(expression).filter_map(|feature| outputs.get(&feature).map(|(id, _)| *id)).collect()
}

/// The models that decide a condition; `models` are in the order of their dependencies.
fn deciding(
    condition: &Expression,
    models: &[ModelPlan],
    outputs: &HashMap<FeatureName, (InstallationId, usize)>,
) -> BTreeSet<InstallationId> {
    let mut needed = makers(condition, outputs);
    for model in models.iter().rev() {
        if needed.contains(&model.installed.id) {
            model.inputs.iter().for_each(|(_, input)| needed.extend(makers(input, outputs)));
        }
    }
    needed
}

/// Sort models so that each comes after those it reads; ties by installation.
fn in_order(
    models: Vec<ModelPlan>,
    outputs: &HashMap<FeatureName, (InstallationId, usize)>,
) -> Result<Vec<ModelPlan>, SetupError> {
    let needed =
        |model: &ModelPlan| model.inputs.iter().flat_map(|(_, input)| makers(input, outputs)).collect::<BTreeSet<_>>();
    let mut waiting: BTreeMap<InstallationId, (BTreeSet<InstallationId>, ModelPlan)> =
        models.into_iter().map(|model| (model.installed.id, (needed(&model), model))).collect();
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
