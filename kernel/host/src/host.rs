//! Responsible for the host itself: its settings, its engine, and making a [`Plugin`] of a component — inspected, compiled
//! or taken from the cache, and checked against its kind's world. What a plugin then does is `roles.rs`.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use kith_model::plugin::{Manifest, PluginKind};
use kith_model::time::Clock;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::abi::Abi;
use crate::cache::Cache;
use crate::compile::{CompileError, CompileMode, artifact_key, compile};
use crate::egress::Client;
use crate::engine::{Engines, Metering};
use crate::exports::LinkedComponent;
use crate::network::Network;
use crate::package::{Inspection, PackageError, inspect_kept};
use crate::policy::Limits;

/// The kernel's version, which a manifest's `kernel` requirement is held against.
pub const KERNEL_VERSION: &str = env!("CARGO_PKG_VERSION");

/// A host's settings.
pub struct HostConfig {
    /// Where compiled code is kept; `None` compiles at every start.
    pub cache_directory: Option<PathBuf>,
    /// The key of the compiled code's MAC, kept outside the cache directory.
    pub mac_key: Zeroizing<[u8; 32]>,
    /// What no plugin gets more of, and the defaults.
    pub ceiling: Limits,
    /// Plugins may reach this machine where a grant names host and port.
    pub allow_loopback: bool,
    /// Plugins may use http without TLS where a grant names host and port.
    pub allow_plain_http: bool,
    pub clock: Arc<dyn Clock>,
    pub compile: CompileMode,
}

/// Why a host does not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("the WebAssembly engine does not start: {0}")]
    Engine(String),
    #[error("the directory of compiled code `{path}` cannot be used")]
    Cache { path: PathBuf, source: std::io::Error },
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    #[error("starting the threads that plugins' requests are sent on")]
    Threads(#[source] std::io::Error),
}

/// Why a component is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error("{plugin} needs a kernel {required}; this is {KERNEL_VERSION}")]
    Kernel { plugin: String, required: semver::VersionReq },
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The names are right but the types behind them are not.
    #[error("the component does not fit the world `{kind}`: {message}")]
    Incompatible { kind: PluginKind, message: String },
}

pub(crate) struct HostCore {
    pub(crate) config: HostConfig,
    pub(crate) engines: Engines,
    /// Sends for all installations, over connections that it keeps.
    pub(crate) client: Arc<Client>,
    /// Where they are sent and their answers read.
    pub(crate) network: Arc<Network>,
    cache: Option<Cache>,
    /// One compilation at a time: each may take much memory.
    compiling: Mutex<()>,
}

/// Runs plugins. Cheap to clone; the engine stops with the last clone and the last plugin.
#[derive(Clone)]
pub struct Host {
    core: Arc<HostCore>,
}

impl Host {
    /// Start the engine and the network's threads, and open the cache. Plugins are called from threads that may block.
    ///
    /// # Errors
    /// [`HostError`] when the machine or the cache directory cannot be used.
    pub fn new(config: HostConfig) -> Result<Host, HostError> {
        let engines = Engines::start().map_err(|error| HostError::Engine(format!("{error:#}")))?;
        let open = |path: &PathBuf| {
            Cache::open(path.clone(), config.mac_key.clone())
                .map_err(|source| HostError::Cache { path: path.clone(), source })
        };
        let cache = config.cache_directory.as_ref().map(open).transpose()?;
        let client = Client::new().map_err(|error| HostError::Tls(error.to_string()))?;
        let client = Arc::new(client);
        let network = Arc::new(Network::start().map_err(HostError::Threads)?);
        Ok(Host { core: Arc::new(HostCore { config, engines, client, network, cache, compiling: Mutex::new(()) }) })
    }

    /// Make a plugin of a component: inspect it, compile it or take its code from the cache, and check its types. Blocks
    /// for as long as compiling takes; call it at start and at installation, never in a request's path. One that is new has to
    /// pass [`inspect`](crate::inspect) before: a manifest that was admitted earlier is not held against budgets of today.
    ///
    /// # Errors
    /// [`LoadError`] for what may not be admitted, does not compile, or does not fit its world.
    pub fn load(&self, component: &[u8]) -> Result<Plugin, LoadError> {
        let inspected = inspect_kept(component)?;
        let manifest = &inspected.manifest;
        let version = semver::Version::parse(KERNEL_VERSION).expect("cargo checks the package's version");
        if !manifest.kernel.matches(&version) {
            let plugin = format!("{} {}", manifest.id, manifest.version);
            return Err(LoadError::Kernel { plugin, required: manifest.kernel.clone() });
        }
        let compiled = compile_for(&self.core, inspected.abi, manifest.kind, component, Metering::Off)?;
        let (plain, metered) = (compiled, OnceLock::new());
        let bytes = component.into();
        Ok(Plugin { core: self.core.clone(), inspected: Arc::new(inspected), component: bytes, plain, metered })
    }
}

impl Host {
    /// Take the compiled code of a component from the disk, where there is any. What is loaded goes on running.
    pub fn forget(&self, component: &[u8]) {
        let Some(cache) = &self.core.cache else { return };
        for metering in [Metering::Off, Metering::On] {
            if let Ok(engine) = self.core.engines.get(metering) {
                cache.remove(&artifact_key(engine, component));
            }
        }
    }
}

/// Compile a component, or take its code from the cache, and link it to what its kind may import.
pub(crate) fn compile_for(
    core: &HostCore,
    abi: Abi,
    kind: PluginKind,
    component: &[u8],
    metering: Metering,
) -> Result<LinkedComponent, LoadError> {
    let refused = |error: wasmtime::Error| LoadError::Compile(CompileError::Refused(format!("{error:#}")));
    let engine = core.engines.get(metering).map_err(refused)?;
    let key = artifact_key(engine, component);
    let _one_at_a_time = core.compiling.lock();
    // Code whose MAC holds but that wasmtime refuses is of an older key scheme or a broken disk: compiled anew as well.
    let cached = core.cache.as_ref().and_then(|cache| cache.load(&key)).and_then(|code| code.load(engine).ok());
    let compiled = match cached {
        Some(compiled) => compiled,
        None => {
            let artifact = compile(&core.config.compile, engine, metering, component)?;
            if let Some(Err(error)) = core.cache.as_ref().map(|cache| cache.store(&key, &artifact)) {
                tracing::warn!(%error, "compiled code was not kept; the next start compiles again");
            }
            artifact.load(engine).map_err(refused)?
        }
    };
    LinkedComponent::new(abi, kind, &compiled)
        .map_err(|error| LoadError::Incompatible { kind, message: format!("{error:#}") })
}

/// A loaded plugin, the same for all workspaces. Binding it to an installation gives its role (`roles.rs`).
pub struct Plugin {
    pub(crate) core: Arc<HostCore>,
    pub(crate) inspected: Arc<Inspection>,
    component: Arc<[u8]>,
    plain: LinkedComponent,
    metered: OnceLock<LinkedComponent>,
}

impl Plugin {
    /// What the plugin declares.
    pub fn manifest(&self) -> &Manifest {
        &self.inspected.manifest
    }

    /// SHA-256 of the component, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.inspected.digest
    }

    /// The version of the contract that it was built against.
    pub fn abi(&self) -> Abi {
        self.inspected.abi
    }

    /// Everything that its bytes say.
    pub fn inspected(&self) -> &Inspection {
        &self.inspected
    }

    /// Whether the code that counts fuel is there.
    pub(crate) fn is_metered(&self) -> bool {
        self.metered.get().is_some()
    }

    /// The code for the given metering; the metered one is compiled when it is first asked for.
    pub(crate) fn compiled(&self, metering: Metering) -> Result<LinkedComponent, LoadError> {
        if metering == Metering::Off {
            return Ok(self.plain.clone());
        }
        if let Some(metered) = self.metered.get() {
            return Ok(metered.clone());
        }
        let metered = compile_for(&self.core, self.abi(), self.manifest().kind, &self.component, Metering::On)?;
        Ok(self.metered.get_or_init(|| metered).clone())
    }
}
