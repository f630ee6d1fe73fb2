//! The WebAssembly side: generated bindings, and the crossing between them and this crate's own types. Guest target only.
//!
//! The interfaces that the worlds share are generated once, in `shared`, and each role's world refers to them. So a finished plugin
//! imports only what it calls and exports only its own role. Generated types never leave this module.

#![allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    reason = "generated code, whose calls over the boundary are unsafe by nature"
)]

use std::marker::PhantomData;
use std::sync::Once;

use crate::log;

mod convert;
pub(crate) mod host;

/// The interfaces of more than one world.
pub(crate) mod shared {
    wit_bindgen::generate!({
        path: "wit/0.2.0",
        inline: "
            package kith:plugin-sdk@0.2.0;
            world shared {
                import kith:plugin/types@0.2.0;
                import kith:plugin/columns@0.2.0;
                import kith:plugin/fitting@0.2.0;
                import kith:plugin/log@0.2.0;
                import kith:plugin/config@0.2.0;
                import kith:plugin/secrets@0.2.0;
                import kith:plugin/http-types@0.2.0;
                import kith:plugin/http@0.2.0;
                import kith:plugin/kv@0.2.0;
                import kith:plugin/clock@0.2.0;
                import kith:plugin/dataset@0.2.0;
                import kith:plugin/emitting@0.2.0;
            }
        ",
        generate_all,
        generate_unused_types: true,
    });
}

/// The bindings of one role's world.
macro_rules! world {
    ($module:ident, $world:literal, $default:literal, { $($interface:literal: $name:ident),* $(,)? }) => {
        #[doc(hidden)]
        pub mod $module {
            wit_bindgen::generate!({
                path: "wit/0.2.0",
                world: $world,
                pub_export_macro: true,
                default_bindings_module: $default,
                with: { $($interface: crate::bindings::shared::kith::plugin::$name),* },
            });
        }
    };
}

world!(connector, "kith:plugin/connector", "kith_plugin_sdk::__private::connector", {
    "kith:plugin/types@0.2.0": types,
    "kith:plugin/log@0.2.0": log,
    "kith:plugin/config@0.2.0": config,
    "kith:plugin/secrets@0.2.0": secrets,
    "kith:plugin/http-types@0.2.0": http_types,
    "kith:plugin/http@0.2.0": http,
    "kith:plugin/kv@0.2.0": kv,
    "kith:plugin/clock@0.2.0": clock,
});
world!(tag_model, "kith:plugin/tag-model", "kith_plugin_sdk::__private::tag_model", {
    "kith:plugin/types@0.2.0": types,
    "kith:plugin/columns@0.2.0": columns,
    "kith:plugin/fitting@0.2.0": fitting,
    "kith:plugin/log@0.2.0": log,
    "kith:plugin/config@0.2.0": config,
    "kith:plugin/dataset@0.2.0": dataset,
    "kith:plugin/emitting@0.2.0": emitting,
});
world!(scorer, "kith:plugin/scorer", "kith_plugin_sdk::__private::scorer", {
    "kith:plugin/types@0.2.0": types,
    "kith:plugin/columns@0.2.0": columns,
    "kith:plugin/fitting@0.2.0": fitting,
    "kith:plugin/log@0.2.0": log,
    "kith:plugin/config@0.2.0": config,
    "kith:plugin/dataset@0.2.0": dataset,
    "kith:plugin/emitting@0.2.0": emitting,
});
world!(channel, "kith:plugin/channel", "kith_plugin_sdk::__private::channel", {
    "kith:plugin/types@0.2.0": types,
    "kith:plugin/http-types@0.2.0": http_types,
    "kith:plugin/log@0.2.0": log,
    "kith:plugin/config@0.2.0": config,
    "kith:plugin/secrets@0.2.0": secrets,
    "kith:plugin/clock@0.2.0": clock,
});

use channel::exports::kith::plugin::{channel_checking, delivering};
use connector::exports::kith::plugin::{connector_checking, polling, source};
use scorer::exports::kith::plugin::{scorer_checking, scoring};
use shared::kith::plugin::{columns, dataset, fitting, types};
use tag_model::exports::kith::plugin::{tag_model_checking, tagging};

/// A plugin as the generated bindings want it.
#[doc(hidden)]
pub struct Exported<P>(PhantomData<P>);

impl<P: crate::Connector> source::Guest for Exported<P> {
    fn receive(requests: Vec<source::Request>) -> Vec<Result<source::Received, source::Rejection>> {
        report_panics();
        let answers = P::receive_all(requests.into_iter().map(Into::into).collect());
        answers.into_iter().map(|answer| answer.map(Into::into).map_err(Into::into)).collect()
    }
}

impl<P: crate::Connector> polling::Guest for Exported<P> {
    fn poll(wanted: polling::Wanted) -> Result<polling::Turn, polling::Failure> {
        report_panics();
        P::poll(&wanted.into()).map(Into::into).map_err(Into::into)
    }

    fn polled(wanted: polling::Wanted, answers: Vec<polling::Answer>) -> Result<polling::Turn, polling::Failure> {
        report_panics();
        let answers = answers.into_iter().map(Into::into).collect();
        P::polled(&wanted.into(), answers).map(Into::into).map_err(Into::into)
    }
}

impl<P: crate::TagModel> tagging::Guest for Exported<P> {
    fn fit() -> Result<fitting::Fitted, types::Failure> {
        report_panics();
        P::fit(crate::Dataset::from_host()).map(Into::into).map_err(Into::into)
    }

    fn evaluate(state: Vec<u8>, rows: columns::Table) -> Result<columns::Table, fitting::ComputeFailure> {
        report_panics();
        P::evaluate(&state, &rows.into()).map(Into::into).map_err(Into::into)
    }
}

impl<P: crate::Scorer> scoring::Guest for Exported<P> {
    fn fit() -> Result<fitting::Fitted, types::Failure> {
        report_panics();
        P::fit(crate::Dataset::from_host()).map(Into::into).map_err(Into::into)
    }

    fn score(state: Vec<u8>, rows: columns::Table) -> Result<columns::Table, fitting::ComputeFailure> {
        report_panics();
        P::score(&state, &rows.into()).map(Into::into).map_err(Into::into)
    }
}

impl<P: crate::Channel> delivering::Guest for Exported<P> {
    fn requests(messages: Vec<delivering::Message>) -> Vec<delivering::Step> {
        report_panics();
        P::requests(messages.into_iter().map(Into::into).collect()).into_iter().map(Into::into).collect()
    }

    fn outcomes(answers: Vec<delivering::Answer>) -> Vec<delivering::Step> {
        report_panics();
        convert::next_steps::<P>(answers)
    }

    fn receive(callback: delivering::Callback) -> Result<Vec<delivering::Receipt>, delivering::Rejection> {
        report_panics();
        match P::receive(callback.into()) {
            Ok(receipts) => Ok(receipts.into_iter().map(Into::into).collect()),
            Err(rejection) => Err(rejection.into()),
        }
    }
}

/// Each world has its own `checking`.
macro_rules! checks {
    ($($module:ident: $role:ident),* $(,)?) => {$(
        impl<P: crate::$role> $module::Guest for Exported<P> {
            fn validate(config: String) -> Result<(), Vec<$module::Problem>> {
                report_panics();
                let problem = |crate::Problem { key, message }| $module::Problem { key, message };
                P::validate(&config).map_err(|problems| problems.into_iter().map(problem).collect())
            }

            fn migrate(from_version: String, config: String) -> Result<String, Vec<$module::Problem>> {
                report_panics();
                let problem = |crate::Problem { key, message }| $module::Problem { key, message };
                let migrated = P::migrate(&from_version, &config);
                migrated.map_err(|problems| problems.into_iter().map(problem).collect())
            }
        }
    )*};
}

checks! {
    connector_checking: Connector,
    tag_model_checking: TagModel,
    scorer_checking: Scorer,
    channel_checking: Channel,
}

/// The next batch of the data set that the host streams.
pub(crate) fn next_batch() -> Option<crate::Batch> {
    dataset::next().map(Into::into)
}

/// Have the host begin with the first row again.
pub(crate) fn rewind() {
    dataset::rewind();
}

/// A trap says nothing about its cause, so the panic's words go to the log before it. Once per instance.
fn report_panics() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let message = panic.payload_as_str().unwrap_or("(no message)");
            match panic.location() {
                Some(place) => log::error(format!("panicked: {message} at {}:{}", place.file(), place.line())),
                None => log::error(format!("panicked: {message}")),
            }
        }));
    });
}
