//! Scenarios of one process, as the catalogue has them where they are not written for.

/// The row says where it is run.
macro_rules! alone {
    ($($what:tt)*) => {
        $crate::nemesis::How::Elsewhere("linux")
    };
}
