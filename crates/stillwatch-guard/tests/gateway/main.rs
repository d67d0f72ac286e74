//! A guard before a mock of a model's API, as clients of all kinds meet it.

mod administration;
mod advice;
mod agreement;
mod bad_input;
mod clients;
mod clocks;
mod envoy;
mod passing;
mod reasoning;
mod setting;
mod streams;
mod traces;
mod verdicts;
