//! Scenarios of one process, as the catalogue has them.

/// A scenario of one process over both crates: whether 0.5.1 is known to fail, what ours documents
/// instead of surviving, and whether it needs a tiny file system.
macro_rules! alone {
    ($scenario:ident, $old_fails:expr, $documented:expr, $tiny:expr) => {
        alone!(@on "any", both, $scenario, $old_fails, $documented, $tiny)
    };
    (around, $($what:tt)*) => {
        around!($($what)*)
    };
    (
        @on $platform:literal, $file:ident,
        $scenario:ident, $old_fails:expr, $documented:expr, $tiny:expr
    ) => {
        $crate::nemesis::How::Alone($crate::nemesis::Alone {
            ours: $crate::nemesis::$file::ours::$scenario,
            old: $crate::nemesis::$file::old::$scenario,
            old_fails: $old_fails,
            documented: $documented,
            tiny: $tiny,
            platform: $platform,
        })
    };
}
