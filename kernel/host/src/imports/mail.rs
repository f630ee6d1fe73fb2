//! Responsible for the interface `mail`, which only contract 0.1 has. No kernel ever sent mail: a manifest that asks for it is
//! refused (`manifest/sections.rs`), and so is a grant (`roles.rs`), so no guest has a server to send through.

use crate::bindings::v0_1::mail;
use crate::state::CallState;

impl mail::Host for CallState {
    fn send(&mut self, _server: String, _message: mail::Message) -> wasmtime::Result<Result<(), mail::Error>> {
        self.count_host_call()?;
        Ok(Err(mail::Error::Denied("no mail server is granted".into())))
    }
}
