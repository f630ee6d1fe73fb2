//! Responsible for where in a component something is, in the words in which a vendor is told: components and modules are
//! numbered from 0 among their siblings, as `kith plugin inspect` lists them.

use wasmparser::{Encoding, Payload};

/// The components and modules around a place, from the outermost.
#[derive(Default)]
pub(super) struct Place {
    around: Vec<Part>,
}

struct Part {
    encoding: Encoding,
    /// Among its siblings of the same encoding.
    number: u32,
    modules: u32,
    components: u32,
}

impl Place {
    /// Go into a part where it begins, and out of it where it ends; before anything else looks at the payload.
    pub(super) fn follow(&mut self, payload: &Payload<'_>) {
        match payload {
            Payload::Version { encoding, .. } => {
                let number = match self.around.last_mut() {
                    None => 0,
                    Some(outer) => outer.next(*encoding),
                };
                self.around.push(Part { encoding: *encoding, number, modules: 0, components: 0 });
            }
            Payload::End(_) => drop(self.around.pop()),
            _ => {}
        }
    }

    /// How many components are around the innermost one.
    pub(super) fn depth(&self) -> usize {
        self.components().count().saturating_sub(1)
    }

    /// Whether the innermost part is a component.
    pub(super) fn is_component(&self) -> bool {
        self.around.last().is_some_and(|part| part.encoding == Encoding::Component)
    }

    /// Whether this is the outermost component or module.
    pub(super) fn is_outermost(&self) -> bool {
        self.around.len() <= 1
    }

    /// The part, unless it is the outermost.
    pub(super) fn name(&self) -> Option<String> {
        let numbers: Vec<String> = self.components().skip(1).map(|part| part.number.to_string()).collect();
        let component = (!numbers.is_empty()).then(|| format!("the nested component {}", numbers.join(".")));
        let module = self.around.last().filter(|part| part.encoding == Encoding::Module && !self.is_outermost());
        match (module, component) {
            (Some(module), Some(component)) => Some(format!("the module {} of {component}", module.number)),
            (Some(module), None) => Some(format!("the module {}", module.number)),
            (None, component) => component,
        }
    }

    fn components(&self) -> impl Iterator<Item = &Part> {
        self.around.iter().filter(|part| part.encoding == Encoding::Component)
    }
}

impl Part {
    /// The number of the part that begins in this one.
    fn next(&mut self, encoding: Encoding) -> u32 {
        let count = match encoding {
            Encoding::Module => &mut self.modules,
            Encoding::Component => &mut self.components,
        };
        *count += 1;
        *count - 1
    }
}
