//! The kernel's clock. Connectors and channels only: compute plugins have none.

use crate::{Timestamp, platform};

/// What time it is for the kernel.
pub fn now() -> Timestamp {
    platform::now()
}
