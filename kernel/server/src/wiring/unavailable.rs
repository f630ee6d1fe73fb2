//! The role of an installation that does not run: each call says so, as something that may pass.

use std::sync::Arc;

use kith_model::delivery::{Message, Outcome};
use kith_model::plugin::{
    Callback, Cancellation, Channel, ComputeModel, Connector, Dataset, Fitted, PluginFault, PluginKind, Receipt,
    ReceiveError, Received, SourceRequest,
};
use kith_model::polling::{PollError, PollTurn, WantedPage};
use kith_model::table::Table;
use kith_pipeline::Role;

struct Unavailable(String);

impl Unavailable {
    fn fault(&self) -> PluginFault {
        PluginFault::Unavailable(self.0.clone())
    }
}

impl Connector for Unavailable {
    fn receive(&self, _: &SourceRequest) -> Result<Received, ReceiveError> {
        Err(ReceiveError::Fault(self.fault()))
    }

    fn poll(&self, _: &WantedPage) -> Result<PollTurn, PollError> {
        Err(PollError::Fault(self.fault()))
    }
}

impl ComputeModel for Unavailable {
    fn fit(&self, _: Box<dyn Dataset>, _: &Cancellation) -> Result<Fitted, PluginFault> {
        Err(self.fault())
    }

    fn compute(&self, _: &[u8], _: Table) -> Result<Table, PluginFault> {
        Err(self.fault())
    }
}

impl Channel for Unavailable {
    fn send(&self, _: &[Message]) -> Result<Vec<Outcome>, PluginFault> {
        Err(self.fault())
    }

    fn receive(&self, _: &Callback) -> Result<Vec<Receipt>, ReceiveError> {
        Err(ReceiveError::Fault(self.fault()))
    }
}

/// A role of this kind that does nothing but say `problem`.
pub(super) fn role(kind: PluginKind, problem: String) -> Role {
    let stand_in = Arc::new(Unavailable(problem));
    match kind {
        PluginKind::Connector => Role::Connector(stand_in),
        PluginKind::TagModel => Role::TagModel(stand_in),
        PluginKind::Scorer => Role::Scorer(stand_in),
        PluginKind::Channel => Role::Channel(stand_in),
    }
}
