//! What of an installation's configuration is written and never shown: it lies sealed in a row of its own, so that whatever shows the
//! installation has nothing of it to show.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::Manifest;
use kith_store::keys::Definition;
use kith_store::{Key, Operation};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{Actor, Draft};
use crate::catalogue::sealed::{KeyRing, Place, SealError};
use crate::catalogue::{Catalogue, CatalogueError, InstallationRow, ShadowRow, UnshownRow, WorkspaceTables};

/// Which of an installation's versions something is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    Live,
    /// What it writes to the installation's state goes nowhere, and what is seen of its calls is its own.
    Shadow,
    /// The same of one that is tried over what is stored. What it does not show is what the live one does not show.
    Backtest,
}

impl Part {
    fn place(self, workspace: WorkspaceId, installation: InstallationId) -> Place<'static> {
        match self {
            Part::Live | Part::Backtest => Place::Config { workspace, installation },
            Part::Shadow => Place::ShadowConfig { workspace, installation },
        }
    }

    fn key(self, workspace: WorkspaceId, installation: InstallationId) -> Key {
        let kind = match self {
            Part::Live | Part::Backtest => Definition::SealedConfig,
            Part::Shadow => Definition::SealedShadow,
        };
        Key::definition(workspace, kind, &installation.0.to_be_bytes())
    }
}

impl WorkspaceTables {
    /// The sealed part of the configuration of one of an installation's versions.
    pub fn sealed_config(&self, id: InstallationId, part: Part) -> Option<&Arc<[u8]>> {
        match part {
            Part::Live | Part::Backtest => self.sealed_configs.get(&id),
            Part::Shadow => self.sealed_shadows.get(&id),
        }
    }

    fn sealed_of(&mut self, part: Part) -> &mut BTreeMap<InstallationId, Arc<[u8]>> {
        match part {
            Part::Live | Part::Backtest => &mut self.sealed_configs,
            Part::Shadow => &mut self.sealed_shadows,
        }
    }

    /// What of the configuration of one of an installation's versions is not shown, as an object.
    fn unshown(&self, ring: &KeyRing, id: InstallationId, part: Part) -> Result<Value, SealError> {
        let Some(sealed) = self.sealed_config(id, part) else { return Ok(Value::Object(Map::new())) };
        let place = part.place(self.row.id, id);
        let text = ring.open_bytes(place, sealed)?;
        serde_json::from_slice(&text).map_err(|_| place.does_not_open())
    }

    /// An installation's configuration as its plugin is given it.
    pub fn whole_config(&self, ring: &KeyRing, row: &InstallationRow) -> Result<Value, SealError> {
        self.whole_config_of(ring, row, Part::Live)
    }

    /// The configuration as one of an installation's versions is given it; `row` is the installation as that version has it.
    pub fn whole_config_of(&self, ring: &KeyRing, row: &InstallationRow, part: Part) -> Result<Value, SealError> {
        if row.unshown.paths.is_empty() {
            return Ok(row.config.clone());
        }
        Ok(kith_host::joined(row.config.clone(), self.unshown(ring, row.id, part)?))
    }
}

impl Catalogue {
    /// Seal what a release before this kept among what is shown.
    pub fn seal_unshown(&self) -> Result<(), CatalogueError> {
        for (workspace, tables) in &self.tables().workspaces {
            let mut change = self.begin(*workspace, Actor::kernel())?;
            for row in tables.installed() {
                let Some(plugin) = tables.plugin_of(row) else { continue };
                let places = kith_host::write_only(&plugin.manifest);
                if kith_host::parted(row.config.clone(), &places).paths.is_empty() {
                    continue;
                }
                let mut row = InstallationRow::clone(row);
                let Ok(whole) = change.whole_config(&row) else { continue };
                change.put_config(&mut row, whole, &plugin.manifest)?;
                change.audit("installation.seal", &row.name, None, None)?;
                change.put_installation(row);
            }
            drop(change.commit()?);
        }
        Ok(())
    }
}

impl Draft<'_> {
    /// An installation's configuration as its plugin is given it.
    pub fn whole_config(&self, row: &InstallationRow) -> Result<Value, SealError> {
        self.tables.whole_config(&self.catalogue.sealer, row)
    }

    /// Put a whole configuration into the row of an installation: what is only written is sealed beside it. What was not shown stays
    /// so, whatever another version's schema says of it: nobody takes a version back to read it. Gives the places of what of the
    /// unshown part is another now.
    pub fn put_config(
        &mut self,
        row: &mut InstallationRow,
        whole: Value,
        manifest: &Manifest,
    ) -> Result<Vec<String>, CatalogueError> {
        self.put_written_config(row, whole, manifest, &Value::Object(Map::new()))
    }

    /// The same of a configuration that came of a merge patch. What of the unshown part that wrote counts as another, whether or not
    /// it was the same before: whoever guesses is not told.
    pub fn put_written_config(
        &mut self,
        row: &mut InstallationRow,
        whole: Value,
        manifest: &Manifest,
        patch: &Value,
    ) -> Result<Vec<String>, CatalogueError> {
        let parted = kith_host::parted(whole, &unshown_places(row, manifest));
        row.config = parted.shown;
        self.put_unshown((row.id, Part::Live), &mut row.unshown, (&parted.unshown, parted.paths), patch)
    }

    /// The same of a version that runs beside the live one of `row`. What the live version does not show it does not show either.
    pub fn put_shadow_config(
        &mut self,
        row: &InstallationRow,
        shadow: &mut ShadowRow,
        whole: Value,
        manifest: &Manifest,
    ) -> Result<(), CatalogueError> {
        let mut places = unshown_places(row, manifest);
        places.extend(shadow.unshown.paths.iter().cloned());
        let parted = kith_host::parted(whole, &places);
        shadow.config = parted.shown;
        let unshown = (&parted.unshown, parted.paths);
        self.put_unshown((row.id, Part::Shadow), &mut shadow.unshown, unshown, &Value::Object(Map::new())).map(drop)
    }

    /// Forget what was sealed for a version that ran beside the live one, where none of `row` does that has anything sealed.
    pub(super) fn forget_sealed_shadow(&mut self, row: &InstallationRow) {
        let is_needed = row.shadow.as_ref().is_some_and(|shadow| !shadow.unshown.paths.is_empty());
        if !is_needed && self.tables.sealed_shadows.remove(&row.id).is_some() {
            self.operations.push(Operation::Delete(Part::Shadow.key(self.tables.row.id, row.id)));
        }
    }

    /// Seal what is not shown; the places of what of it is another now, or was written by a merge patch.
    fn put_unshown(
        &mut self,
        (id, part): (InstallationId, Part),
        row: &mut UnshownRow,
        (unshown, paths): (&Value, BTreeSet<String>),
        patch: &Value,
    ) -> Result<Vec<String>, CatalogueError> {
        let workspace = self.tables.row.id;
        // What does not open any more is written anew.
        let before = self.tables.unshown(&self.catalogue.sealer, id, part).ok();
        let of_before = |path: &str| before.as_ref().and_then(|before| before.pointer(path));
        let all: BTreeSet<&String> = row.paths.iter().chain(&paths).collect();
        let is_other = |path: &String| of_before(path) != unshown.pointer(path);
        let is_changed = before.is_none() || all.iter().any(|path| is_other(path));
        let told = all.into_iter().filter(|path| is_other(path) || writes(patch, path));
        let told: Vec<String> = told.cloned().collect();
        if told.is_empty() && !is_changed {
            return Ok(told);
        }
        // What was written as it was is sealed again, so that it takes as long, and makes nothing be computed again.
        row.changes += u64::from(is_changed);
        let key = part.key(workspace, id);
        if paths.is_empty() {
            self.operations.push(Operation::Delete(key));
            self.tables.sealed_of(part).remove(&id);
        } else {
            let text = Zeroizing::new(unshown.to_string());
            let sealed = self.catalogue.sealer.seal(part.place(workspace, id), text.as_bytes())?;
            self.operations.push(Operation::Put(key, sealed.clone()));
            self.tables.sealed_of(part).insert(id, sealed.into());
        }
        row.paths = paths;
        self.alters_setup = true;
        Ok(told)
    }
}

/// Whether a merge patch says what is to be at the place that a JSON pointer leads to.
fn writes(patch: &Value, path: &str) -> bool {
    let Some((name, rest)) = path.strip_prefix('/').map(|path| path.split_once('/').unwrap_or((path, ""))) else {
        return true;
    };
    match patch.as_object() {
        None => true,
        Some(members) => members.get(&name.replace("~1", "/").replace("~0", "~")).is_some_and(|patch| match rest {
            "" => true,
            rest => writes(patch, &format!("/{rest}")),
        }),
    }
}

/// The places of a configuration that are not shown, whether or not something is there.
pub fn unshown_places(row: &InstallationRow, manifest: &Manifest) -> BTreeSet<String> {
    let mut places = kith_host::write_only(manifest);
    places.extend(row.unshown.paths.iter().cloned());
    places
}

#[cfg(test)]
mod tests {
    use kith_model::plugin::PluginKind;
    use serde_json::json;

    use super::*;
    use crate::api::tests::installations::plugin_row;
    use crate::api::tests::{FIRST, installation_row};
    use crate::catalogue::PluginRow;
    use crate::serve::tests::{TestServer, server};

    fn plugin() -> PluginRow {
        let mut plugin = plugin_row("level", PluginKind::TagModel);
        plugin.manifest.config_schema = Some(json!({ "properties": {
            "url": {}, "token": { "writeOnly": true }, "auth": { "properties": { "pin": { "writeOnly": true } } },
        } }));
        plugin
    }

    /// Put a configuration into the installation, and give the row and what became another.
    fn put(server: &TestServer, whole: Value, plugin: &PluginRow) -> (InstallationRow, Vec<String>) {
        let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
        let held = change.tables().installations.get(&InstallationId(901)).map(|row| InstallationRow::clone(row));
        let mut row = held.unwrap_or_else(|| installation_row(901, "level"));
        let changed = change.put_config(&mut row, whole, &plugin.manifest).unwrap();
        change.put_plugin(plugin.clone());
        change.put_installation(row.clone());
        drop(change.commit().unwrap());
        (row, changed)
    }

    fn whole(server: &TestServer, row: &InstallationRow) -> Value {
        let tables = server.app().catalogue.workspace(FIRST).unwrap();
        tables.whole_config(server.app().catalogue.sealer(), row).unwrap()
    }

    fn sealed(server: &TestServer) -> Option<Vec<u8>> {
        let key = Key::definition(FIRST, Definition::SealedConfig, &901_u32.to_be_bytes());
        server.store().get(&[key]).unwrap().pop().flatten().map(|row| row.to_vec())
    }

    #[test]
    fn what_is_only_written_lies_sealed_and_the_plugin_is_given_it() {
        let server = server();
        let given = json!({ "url": "u", "token": "s3cret", "auth": { "pin": 1234 } });
        let (row, changed) = put(&server, given.clone(), &plugin());
        assert_eq!((row.config.clone(), changed.len()), (json!({ "url": "u", "auth": {} }), 2));
        assert_eq!(row.unshown.changes, 1);
        assert_eq!(whole(&server, &row), given);
        let first = sealed(&server).unwrap();
        assert!(!String::from_utf8_lossy(&first).contains("s3cret"));

        // What stays the same is not sealed again.
        let (row, changed) = put(&server, json!({ "url": "v", "token": "s3cret", "auth": { "pin": 1234 } }), &plugin());
        assert_eq!((changed.len(), row.unshown.changes, sealed(&server)), (0, 1, Some(first)));
        // Nor is it shown by a version that does not call it unshown.
        let mut open = plugin();
        open.manifest.config_schema = Some(json!({}));
        let (row, changed) = put(&server, json!({ "url": "v", "token": "other", "auth": { "pin": 1234 } }), &open);
        assert_eq!((row.config.clone(), changed), (json!({ "url": "v", "auth": {} }), vec!["/token".to_owned()]));
        assert_eq!(whole(&server, &row)["token"], "other");
        let (row, changed) = put(&server, json!({ "url": "v" }), &plugin());
        assert_eq!((changed.len(), row.unshown.paths.len(), sealed(&server)), (2, 0, None));
        server.app().kernel.stop();
    }

    #[test]
    fn who_writes_a_guess_is_told_the_same_whether_it_is_right_or_not() {
        let server = server();
        let given = json!({ "url": "u", "token": "s3cret", "auth": { "pin": 1234 } });
        let (row, _) = put(&server, given.clone(), &plugin());
        for (token, changes) in [("s3cret", 1), ("guess", 2)] {
            let mut draft = server.app().catalogue.rehearse(FIRST, Actor::kernel()).unwrap();
            let (mut next, patch) = (row.clone(), json!({ "token": token }));
            let whole = json!({ "url": "u", "token": token, "auth": { "pin": 1234 } });
            let told = draft.put_written_config(&mut next, whole, &plugin().manifest, &patch).unwrap();
            assert_eq!((told, draft.alters_setup()), (vec!["/token".to_owned()], true), "{token}");
            assert_eq!(next.unshown.changes, changes, "what stays the same makes nothing be computed again");
        }
        server.app().kernel.stop();
    }

    #[test]
    fn a_patch_writes_what_it_names_and_what_is_in_it() {
        for (patch, path, expected) in [
            (json!({ "token": 1 }), "/token", true),
            (json!({ "token": null }), "/token", true),
            (json!({ "url": 1 }), "/token", false),
            (json!({ "auth": { "pin": 1 } }), "/auth/pin", true),
            (json!({ "auth": { "user": 1 } }), "/auth/pin", false),
            (json!({ "auth": null }), "/auth/pin", true),
            (json!({ "auth": [] }), "/auth/pin", true),
            (json!({ "a/b": { "~": 1 } }), "/a~1b/~0", true),
            (json!({}), "/token", false),
            (json!(null), "/token", true),
        ] {
            assert_eq!(writes(&patch, path), expected, "{patch} {path}");
        }
    }

    #[test]
    fn what_a_version_beside_the_live_one_does_not_show_lies_sealed_for_itself_until_that_ends() {
        let server = server();
        let key = Key::definition(FIRST, Definition::SealedShadow, &901_u32.to_be_bytes());
        let sealed_shadow = || server.store().get(std::slice::from_ref(&key)).unwrap().pop().flatten();
        let (row, _) = put(&server, json!({ "url": "u", "token": "s3cret" }), &plugin());
        let put_shadow = |shadow: Option<ShadowRow>, given: Value| {
            let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
            let mut shadow = shadow.unwrap_or_else(|| ShadowRow {
                version: semver::Version::new(2, 0, 0),
                config: Value::Null,
                unshown: UnshownRow::default(),
                since: change.now(),
            });
            // It calls nothing unshown itself.
            let manifest = Manifest { config_schema: None, ..plugin().manifest };
            change.put_shadow_config(&row, &mut shadow, given, &manifest).unwrap();
            change.put_installation(InstallationRow { shadow: Some(shadow.clone()), ..row.clone() });
            drop(change.commit().unwrap());
            shadow
        };
        let given = json!({ "address": "u", "token": "made of it" });
        let shadow = put_shadow(None, given.clone());
        assert_eq!((shadow.config.clone(), shadow.unshown.changes), (json!({ "address": "u" }), 1));
        assert!(!String::from_utf8_lossy(&sealed_shadow().unwrap()).contains("made of it"));
        let of_shadow =
            InstallationRow { config: shadow.config.clone(), unshown: shadow.unshown.clone(), ..row.clone() };
        let tables = server.app().catalogue.workspace(FIRST).unwrap();
        let ring = server.app().catalogue.sealer();
        assert_eq!(tables.whole_config_of(ring, &of_shadow, Part::Shadow).unwrap(), given);
        assert_eq!(whole(&server, &row)["token"], "s3cret", "the live one has its own");
        let clock = Arc::clone(&server.app().clock);
        let read = Catalogue::open(server.shared_store(), clock, KeyRing::fixed()).unwrap().workspace(FIRST).unwrap();
        assert_eq!(read.sealed_config(row.id, Part::Shadow).cloned(), sealed_shadow(), "it is read again at a start");

        let same = put_shadow(Some(shadow.clone()), given);
        assert_eq!(same, shadow, "what stays the same is not sealed again");
        let other = put_shadow(Some(shadow), json!({ "token": "other" }));
        assert_eq!((other.config, other.unshown.changes), (json!({}), 2));
        let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
        change.put_installation(row.clone());
        drop(change.commit().unwrap());
        assert_eq!((sealed_shadow(), whole(&server, &row)["token"].clone()), (None, json!("s3cret")));
        server.app().kernel.stop();
    }

    #[test]
    fn what_a_release_before_showed_is_sealed() {
        let server = server();
        let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
        change.put_plugin(plugin());
        change.put_installation(InstallationRow {
            config: json!({ "url": "u", "token": "s3cret" }),
            ..installation_row(901, "level")
        });
        drop(change.commit().unwrap());
        server.app().catalogue.seal_unshown().unwrap();
        let tables = server.app().catalogue.workspace(FIRST).unwrap();
        let row = tables.installation("level").unwrap();
        assert_eq!(row.config, json!({ "url": "u" }));
        assert_eq!(whole(&server, row), json!({ "url": "u", "token": "s3cret" }));
        let before = sealed(&server);
        server.app().catalogue.seal_unshown().unwrap();
        assert_eq!(sealed(&server), before, "it is done once");
        server.app().kernel.stop();
    }
}
