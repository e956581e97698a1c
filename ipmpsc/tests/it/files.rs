//! To come.

pub(crate) fn child(role: &str, _args: &[&str]) {
    panic!("no child is called {role}");
}
