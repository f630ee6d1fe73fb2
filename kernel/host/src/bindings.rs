//! Responsible for the generated bindings of the plugin contract in `/wit`, one module a world over one shared set of
//! interface types. Generated types never leave this crate: `convert.rs` turns them into the model's.

/// The interfaces that the worlds share: what the host offers and the types that both sides use.
pub(crate) mod shared {
    wasmtime::component::bindgen!({
        path: "../../wit",
        interfaces: "
            import kith:plugin/types@0.1.0;
            import kith:plugin/columns@0.1.0;
            import kith:plugin/fitting@0.1.0;
            import kith:plugin/log@0.1.0;
            import kith:plugin/config@0.1.0;
            import kith:plugin/secrets@0.1.0;
            import kith:plugin/http@0.1.0;
            import kith:plugin/mail@0.1.0;
            import kith:plugin/kv@0.1.0;
            import kith:plugin/clock@0.1.0;
            import kith:plugin/dataset@0.1.0;
        ",
        imports: { default: trappable },
    });
    pub(crate) use kith::plugin::{clock, columns, config, dataset, fitting, http, kv, log, mail, secrets, types};
}

pub(crate) mod connector {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "connector",
        imports: { default: trappable },
        with: { "kith:plugin": super::shared::kith::plugin },
    });
    pub(crate) use exports::kith::plugin::source;
}

pub(crate) mod tag_model {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "tag-model",
        imports: { default: trappable },
        with: { "kith:plugin": super::shared::kith::plugin },
    });
}

pub(crate) mod scorer {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "scorer",
        imports: { default: trappable },
        with: { "kith:plugin": super::shared::kith::plugin },
    });
}

pub(crate) mod channel {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "channel",
        imports: { default: trappable },
        with: { "kith:plugin": super::shared::kith::plugin },
    });
    pub(crate) use exports::kith::plugin::delivering;
}
