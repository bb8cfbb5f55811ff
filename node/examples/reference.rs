//! Writes docs/reference/commands.md to stdout.

fn main() {
    comity_cli::say(comity_node::program::reference().trim_end());
}
