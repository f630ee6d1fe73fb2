//! Responsible for the interface `mail`. This kernel sends no mail yet: a grant that names a mail server is refused when a
//! plugin is bound (`roles.rs`), so no guest has one to send through.

use crate::bindings::shared::mail;
use crate::state::CallState;

impl mail::Host for CallState {
    fn send(&mut self, _server: String, _message: mail::Message) -> wasmtime::Result<Result<(), mail::Error>> {
        self.count_host_call()?;
        Ok(Err(mail::Error::Denied("no mail server is granted".into())))
    }
}
