//! Responsible for the generated bindings of the plugin contract in `/wit`: the types of 0.2.0, and of 0.1.0 only what is
//! different there, because types are told apart by their shape and not by their version. Generated types never leave this
//! crate: `convert.rs` turns them into the model's.
//!
//! Functions are linked (`link.rs`) and called (`exports.rs`) under the names of the version that a component was built
//! against, so that one set of types serves both.

/// Contract 0.2.0.
pub(crate) mod current {
    wasmtime::component::bindgen!({
        path: "../../wit/0.2.0",
        interfaces: "
            import kith:plugin/types@0.2.0;
            import kith:plugin/columns@0.2.0;
            import kith:plugin/fitting@0.2.0;
            import kith:plugin/http-types@0.2.0;
            import kith:plugin/log@0.2.0;
            import kith:plugin/config@0.2.0;
            import kith:plugin/secrets@0.2.0;
            import kith:plugin/http@0.2.0;
            import kith:plugin/kv@0.2.0;
            import kith:plugin/clock@0.2.0;
            import kith:plugin/dataset@0.2.0;
            import kith:plugin/emitting@0.2.0;
            import kith:plugin/connector-checking@0.2.0;
            import kith:plugin/source@0.2.0;
            import kith:plugin/polling@0.2.0;
            import kith:plugin/delivering@0.2.0;
        ",
        imports: { default: trappable },
    });
    pub(crate) use kith::plugin::connector_checking as checking;
    pub(crate) use kith::plugin::{
        clock, columns, config, dataset, delivering, emitting, fitting, http, http_types, kv, log, polling, secrets,
        source, types,
    };
}

/// What contract 0.1.0 has in another shape.
pub(crate) mod v0_1 {
    wasmtime::component::bindgen!({
        path: "../../wit/0.1.0",
        interfaces: "
            import kith:plugin/types@0.1.0;
            import kith:plugin/columns@0.1.0;
            import kith:plugin/dataset@0.1.0;
            import kith:plugin/http@0.1.0;
            import kith:plugin/mail@0.1.0;
            import kith:plugin/source@0.1.0;
            import kith:plugin/delivering@0.1.0;
        ",
        imports: { default: trappable },
    });
    pub(crate) use kith::plugin::{columns, dataset, delivering, http, mail, source, types};
}
