//! What the harness prints and how it exits, against stored screens: `tests/it/cli/*.trycmd`.
//!
//! `TRYCMD=overwrite cargo nextest run -p harness screens` writes them anew; read the difference.

#[test]
fn screens_and_exit_codes_are_as_stored() {
    trycmd::TestCases::new()
        .default_bin_path(env!("CARGO_BIN_EXE_harness"))
        .case("tests/it/cli/*.trycmd");
}
