//! Responsible for what nested components come to once all are instantiated, and for validation, which tells the types that
//! this takes. A nested component is small on disk and may be instantiated often, each time with everything in it; and where
//! one component calls another, the compiler writes an adapter for every member of every type that is handed over. Both are
//! counted here as the compiler would meet them, so that a few KiB that unfold to megabytes are refused before it does.

use std::collections::HashMap;

use wasmparser::component_types::{ComponentDefinedType, ComponentDefinedTypeId, ComponentValType};
use wasmparser::types::TypesRef;
use wasmparser::{
    BinaryReaderError, CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, ComponentTypeRef, Encoding, FuncValidatorAllocations, Instance, Parser, Payload,
    ValidPayload, Validator,
};

use super::PackageError;
use super::place::Place;
use super::shape::{features, malformed};

/// Instances of modules and components. One that a JavaScript tool makes of an engine and stubs has some 80.
const MAX_INSTANCES: u64 = 512;
/// Instances of modules, which a call makes all of; the store of a call is of this limit, and of the two below (`state.rs`).
pub(crate) const MAX_MODULE_INSTANCES: u64 = 32;
/// Memories of all instances of modules. One that composes an engine with stubs has three. Their bytes count together.
pub(crate) const MAX_MEMORIES: u64 = 4;
/// Tables of all instances of modules.
pub(crate) const MAX_TABLES: u64 = 4;
/// Modules of adapters that the compiler writes between nested components, each of which a call makes an instance of. It begins
/// another one only where an adapter is for what comes of an adapter before it: of an instance that was made in between. So
/// there are at most two for each instance that is admitted.
pub(crate) const MAX_ADAPTERS: u64 = 2 * MAX_INSTANCES;
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
    let mut unfolding = Unfolding { bytes: component.len(), place, scopes, module: Work::default(), weights };
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

/// What one instance of a module or a component comes to, with all that it instantiates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Work {
    instances: u64,
    lowered: u64,
    module_instances: u64,
    memories: u64,
    tables: u64,
}

impl Work {
    fn add(&mut self, other: Work) {
        self.instances = self.instances.saturating_add(other.instances);
        self.lowered = self.lowered.saturating_add(other.lowered);
        self.module_instances = self.module_instances.saturating_add(other.module_instances);
        self.memories = self.memories.saturating_add(other.memories);
        self.tables = self.tables.saturating_add(other.tables);
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
            (
                "instances of modules, with those of a nested component each time that it is instantiated",
                self.module_instances,
                MAX_MODULE_INSTANCES,
            ),
            ("memories, with those of a module each time that it is instantiated", self.memories, MAX_MEMORIES),
            ("tables, with those of a module each time that it is instantiated", self.tables, MAX_TABLES),
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
    /// Components by index. `None` where one is not written in this file but comes from elsewhere at run time.
    components: Vec<Option<Work>>,
    /// The same of modules.
    modules: Vec<Option<Work>>,
}

/// What has a number of its own in a component and may be instantiated.
#[derive(Debug, Clone, Copy)]
enum Sort {
    Module,
    Component,
}

struct Unfolding {
    /// Of the whole file.
    bytes: usize,
    place: Place,
    /// Of the components around the present place, from the outermost. Modules have none.
    scopes: Vec<Scope>,
    /// An instance of the module that is being read.
    module: Work,
    weights: Weights,
}

impl Unfolding {
    /// Count a payload that the validator has taken.
    fn follow(&mut self, payload: &Payload<'_>, validator: &Validator) -> Result<(), PackageError> {
        let was_component = self.place.is_component();
        self.place.follow(payload);
        match payload {
            Payload::End(_) if was_component => {
                let ended = self.scopes.pop().unwrap_or_default();
                self.push(Sort::Component, Some(ended.own));
            }
            Payload::End(_) => self.push(Sort::Module, Some(self.module)),
            Payload::Version { encoding: Encoding::Component, .. } => self.scopes.push(Scope::default()),
            Payload::Version { encoding: Encoding::Module, .. } => {
                self.module = Work { module_instances: 1, ..Work::default() };
            }
            Payload::MemorySection(memories) => self.module.memories += u64::from(memories.count()),
            Payload::TableSection(tables) => self.module.tables += u64::from(tables.count()),
            Payload::InstanceSection(instances) => {
                for instance in instances.clone() {
                    let module = match self.read(instance)? {
                        Instance::Instantiate { module_index, .. } => Some((Sort::Module, module_index)),
                        Instance::FromExports(_) => None,
                    };
                    self.instantiate(module)?;
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances.clone() {
                    let component = match self.read(instance)? {
                        ComponentInstance::Instantiate { component_index, .. } => {
                            Some((Sort::Component, component_index))
                        }
                        ComponentInstance::FromExports(_) => None,
                    };
                    self.instantiate(component)?;
                }
            }
            Payload::ComponentCanonicalSection(functions) => {
                let Some(types) = validator.types(0) else { return Ok(()) };
                for function in functions.clone() {
                    let lowered = match self.read(function)? {
                        CanonicalFunction::Lower { func_index, .. } => self.weights.of_function(types, func_index),
                        _ => 1,
                    };
                    self.add(Work { lowered, ..Work::default() })?;
                }
            }
            payload => self.number(payload)?,
        }
        Ok(())
    }

    /// Count an instance: of a module or component of this number, or of what is there already.
    fn instantiate(&mut self, of: Option<(Sort, u32)>) -> Result<(), PackageError> {
        self.add(Work { instances: 1, ..Work::default() })?;
        let Some((sort, index)) = of else { return Ok(()) };
        match self.numbered(sort, 0, index) {
            Some(work) => self.add(work),
            None => Err(PackageError::ForeignComponent {
                part: self.place.name().unwrap_or_else(|| "the component".to_owned()),
            }),
        }
    }

    /// Keep up the numbers of modules and components that are not written at this place.
    fn number(&mut self, payload: &Payload<'_>) -> Result<(), PackageError> {
        match payload {
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases.clone() {
                    match self.read(alias)? {
                        ComponentAlias::InstanceExport { kind, .. } => {
                            if let Some(sort) = Sort::of(kind) {
                                self.push(sort, None);
                            }
                        }
                        ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, count, index } => {
                            self.push(Sort::Module, self.numbered(Sort::Module, count, index));
                        }
                        ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                            self.push(Sort::Component, self.numbered(Sort::Component, count, index));
                        }
                        _ => {}
                    }
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports.clone() {
                    match self.read(import)?.ty {
                        ComponentTypeRef::Module(_) => self.push(Sort::Module, None),
                        ComponentTypeRef::Component(_) => self.push(Sort::Component, None),
                        _ => {}
                    }
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports.clone() {
                    let export = self.read(export)?;
                    // What is exported has a number of its own from there on.
                    if let Some(sort) = Sort::of(export.kind) {
                        self.push(sort, self.numbered(sort, 0, export.index));
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

    fn push(&mut self, sort: Sort, work: Option<Work>) {
        if let Some(scope) = self.scopes.last_mut() {
            match sort {
                Sort::Module => scope.modules.push(work),
                Sort::Component => scope.components.push(work),
            }
        }
    }

    /// The module or component of that number, so many components outwards.
    fn numbered(&self, sort: Sort, outwards: u32, index: u32) -> Option<Work> {
        let scope = self.scopes.iter().rev().nth(outwards as usize)?;
        let numbered = match sort {
            Sort::Module => &scope.modules,
            Sort::Component => &scope.components,
        };
        numbered.get(index as usize).copied().flatten()
    }
}

impl Sort {
    fn of(kind: ComponentExternalKind) -> Option<Sort> {
        match kind {
            ComponentExternalKind::Module => Some(Sort::Module),
            ComponentExternalKind::Component => Some(Sort::Component),
            _ => None,
        }
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
