//! The scenarios of `around`, which are written for Linux, on other systems.

/// A scenario that is not run here.
macro_rules! around {
    ($($what:tt)*) => {
        $crate::nemesis::How::Elsewhere("linux")
    };
}
