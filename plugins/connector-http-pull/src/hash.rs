//! A hash of bytes for what a cursor and a message id keep: the same on every machine and in every version of this plugin.

/// FNV-1a, mixed at the end so that all bits depend on all bytes. Nobody gains from a collision: it is only ever compared within
/// one resource of one source.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let folded = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (folded ^ (folded >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_changes() {
        // Cursors and the ids of stored events hold such hashes: another function would read and store everything again.
        assert_eq!(hash(b""), 0xecba_3df2_c338_3c52);
        assert_eq!(hash(b"a"), 0xed81_70de_1919_a24d);
        assert_eq!(hash(b"orders"), 0xcea6_b138_40ee_1f1d);
    }
}
