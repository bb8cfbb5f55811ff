//! One integration binary: it links once. A file here that is not declared is found by `architecture::tidy`.

mod architecture;
mod asks_again;
mod attacks;
mod books_under_faults;
mod callers_cannot_overspend;
mod catching_up;
mod conformance;
mod demo_adds_up;
mod doors;
mod fuzz;
mod kill_nine;
mod limits;
mod named_tests;
mod postgres;
mod replay_charges_nothing;
mod restore_drill;
mod small_money;
mod spec_bodies;
mod spec_list;
mod start_pages;
mod starts;
mod unit_file;
mod unused_token;
mod wallet_dies;
mod watching;
mod while_running;
