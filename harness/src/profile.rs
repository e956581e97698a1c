//! How much a run does: the tables behind `--profile`.

use clap::ValueEnum;

/// How much to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    Quick,
    #[default]
    Default,
    Full,
}
