//! Responsible for what nested components come to once all are instantiated, and for validation, which tells the types that
//! this takes. A nested component is small on disk and may be instantiated often, each time with everything in it; and where
//! one component calls another, the compiler writes an adapter for every member of every type that is handed over. Both are
//! counted here as the compiler would meet them, so that a few KiB that unfold to megabytes are refused before it does.

use std::collections::HashMap;

use wasmparser::component_types::{ComponentDefinedType, ComponentDefinedTypeId, ComponentValType};
use wasmparser::types::TypesRef;
use wasmparser::{
    BinaryReaderError, CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, ComponentTypeRef, Encoding, FuncValidatorAllocations, Parser, Payload, ValidPayload,
    Validator,
};

use super::PackageError;
use super::place::Place;
use super::shape::{features, malformed};

/// Instances of modules and components. One that a JavaScript tool makes of an engine and stubs has some 80.
const MAX_INSTANCES: u64 = 512;
/// Members of the types of functions that are lowered; each costs up to 0.15 ms to compile.
const MAX_LOWERED: u64 = 16_384;

/// Validate a component, and refuse one that unfolds to more than the limits.
pub(super) fn check(component: &[u8]) -> Result<(), PackageError> {
    let bad = |error: BinaryReaderError| malformed(&error, component.len());
    let mut validator = Validator::new_with_features(features());
    let mut parser = Parser::new(0);
    parser.set_features(features());
    let mut functions = Vec::new();
    let (place, scopes, weights) = (Place::default(), Vec::new(), Weights::default());
    let mut unfolding = Unfolding { bytes: component.len(), place, scopes, weights };
    for payload in parser.parse_all(component) {
        let payload = payload.map_err(bad)?;
        if let ValidPayload::Func(function, body) = validator.payload(&payload).map_err(bad)? {
            functions.push((function, body));
        }
        unfolding.follow(&payload, &validator)?;
    }
    let mut allocations = FuncValidatorAllocations::default();
    for (function, body) in functions {
        let mut validator = function.into_validator(allocations);
        validator.validate(&body).map_err(bad)?;
        allocations = validator.into_allocations();
    }
    Ok(())
}

/// What one instance of a component comes to, with all that it instantiates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Work {
    instances: u64,
    lowered: u64,
}

impl Work {
    fn add(&mut self, other: Work) {
        self.instances = self.instances.saturating_add(other.instances);
        self.lowered = self.lowered.saturating_add(other.lowered);
    }

    fn check(self, place: &Place) -> Result<(), PackageError> {
        let limits = [
            (
                "instances, with those of a nested component each time that it is instantiated",
                self.instances,
                MAX_INSTANCES,
            ),
            (
                "members of the types that its functions are called with, counted in the same way",
                self.lowered,
                MAX_LOWERED,
            ),
        ];
        match limits.into_iter().find(|(_, found, limit)| found > limit) {
            Some((what, found, limit)) => Err(PackageError::TooMany { what, found, limit, part: place.name() }),
            None => Ok(()),
        }
    }
}

/// A component that is being read.
#[derive(Default)]
struct Scope {
    own: Work,
    /// By index. `None` where the component is not written in this file but comes from elsewhere at run time.
    components: Vec<Option<Work>>,
}

struct Unfolding {
    /// Of the whole file.
    bytes: usize,
    place: Place,
    /// Of the components around the present place, from the outermost. Modules have none.
    scopes: Vec<Scope>,
    weights: Weights,
}

impl Unfolding {
    /// Count a payload that the validator has taken.
    fn follow(&mut self, payload: &Payload<'_>, validator: &Validator) -> Result<(), PackageError> {
        let ends_component = matches!(payload, Payload::End(_)) && self.place.is_component();
        self.place.follow(payload);
        if ends_component {
            let ended = self.scopes.pop().unwrap_or_default();
            self.push(Some(ended.own));
            return Ok(());
        }
        match payload {
            Payload::Version { encoding: Encoding::Component, .. } => self.scopes.push(Scope::default()),
            Payload::InstanceSection(instances) => {
                self.add(Work { instances: u64::from(instances.count()), lowered: 0 })?
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances.clone() {
                    let instance = self.read(instance)?;
                    self.instantiate(&instance)?;
                }
            }
            Payload::ComponentCanonicalSection(functions) => {
                let Some(types) = validator.types(0) else { return Ok(()) };
                for function in functions.clone() {
                    let lowered = match self.read(function)? {
                        CanonicalFunction::Lower { func_index, .. } => self.weights.of_function(types, func_index),
                        _ => 1,
                    };
                    self.add(Work { instances: 0, lowered })?;
                }
            }
            payload => self.number(payload)?,
        }
        Ok(())
    }

    fn instantiate(&mut self, instance: &ComponentInstance<'_>) -> Result<(), PackageError> {
        self.add(Work { instances: 1, lowered: 0 })?;
        let ComponentInstance::Instantiate { component_index, .. } = instance else { return Ok(()) };
        match self.component(0, *component_index) {
            Some(work) => self.add(work),
            None => Err(PackageError::ForeignComponent {
                part: self.place.name().unwrap_or_else(|| "the component".to_owned()),
            }),
        }
    }

    /// Keep up the numbers of components that are not written at this place.
    fn number(&mut self, payload: &Payload<'_>) -> Result<(), PackageError> {
        match payload {
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases.clone() {
                    match self.read(alias)? {
                        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => {
                            self.push(None);
                        }
                        ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                            let component = self.component(count, index);
                            self.push(component);
                        }
                        _ => {}
                    }
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    if let ComponentTypeRef::Component(_) = self.read(import)?.ty {
                        self.push(None);
                    }
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports.clone() {
                    let export = self.read(export)?;
                    // What is exported has a number of its own from there on.
                    if export.kind == ComponentExternalKind::Component {
                        let component = self.component(0, export.index);
                        self.push(component);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn read<T>(&self, item: Result<T, BinaryReaderError>) -> Result<T, PackageError> {
        item.map_err(|error| malformed(&error, self.bytes))
    }

    /// Looks at the limits each time, because each time may double the sum.
    fn add(&mut self, work: Work) -> Result<(), PackageError> {
        let Some(scope) = self.scopes.last_mut() else { return Ok(()) };
        scope.own.add(work);
        scope.own.check(&self.place)
    }

    fn push(&mut self, component: Option<Work>) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.components.push(component);
        }
    }

    /// The component of that number, so many components outwards.
    fn component(&self, outwards: u32, index: u32) -> Option<Work> {
        let scope = self.scopes.iter().rev().nth(outwards as usize)?;
        scope.components.get(index as usize).copied().flatten()
    }
}

/// How many members a type has, each with the members of its own type. The validator bounds how deep types are.
#[derive(Default)]
struct Weights(HashMap<ComponentDefinedTypeId, u64>);

impl Weights {
    fn of_function(&mut self, types: TypesRef<'_>, function: u32) -> u64 {
        let function = &types[types.component_function_at(function)];
        let values = function.params.iter().map(|(_, value)| *value).chain(function.result);
        self.of_all(types, values).saturating_add(1)
    }

    fn of_all(&mut self, types: TypesRef<'_>, values: impl Iterator<Item = ComponentValType>) -> u64 {
        values.fold(0, |sum, value| sum.saturating_add(self.of_value(types, value)))
    }

    fn of_value(&mut self, types: TypesRef<'_>, value: ComponentValType) -> u64 {
        let ComponentValType::Type(id) = value else { return 1 };
        if let Some(known) = self.0.get(&id) {
            return *known;
        }
        let weight = self.of_defined(types, &types[id]).saturating_add(1);
        self.0.insert(id, weight);
        weight
    }

    fn of_defined(&mut self, types: TypesRef<'_>, defined: &ComponentDefinedType) -> u64 {
        use ComponentDefinedType as Defined;
        match defined {
            Defined::Primitive(_) | Defined::Own(_) | Defined::Borrow(_) => 0,
            Defined::Record(record) => self.of_all(types, record.fields.values().copied()),
            Defined::Tuple(tuple) => self.of_all(types, tuple.types.iter().copied()),
            Defined::Variant(variant) => {
                let payloads = self.of_all(types, variant.cases.values().filter_map(|case| case.ty));
                payloads.saturating_add(variant.cases.len() as u64)
            }
            Defined::Enum(names) | Defined::Flags(names) => names.len() as u64,
            Defined::List { element, .. } => self.of_value(types, *element),
            Defined::FixedLengthList { element, length, .. } => {
                self.of_value(types, *element).saturating_mul(u64::from(*length))
            }
            Defined::Map { key, value, .. } => self.of_all(types, [*key, *value].into_iter()),
            Defined::Option { ty, .. } => self.of_value(types, *ty),
            Defined::Result { ok, err, .. } => self.of_all(types, ok.iter().chain(err).copied()),
            Defined::Future { ty, .. } | Defined::Stream { ty, .. } => self.of_all(types, ty.iter().copied()),
        }
    }
}
