#![doc = include_str!("ARCHITECTURE.md")]

pub mod answer;
mod crash;
pub mod event;
pub mod fetch;
pub mod json;
pub mod secret;
pub mod stage;
pub mod telemetry;
pub mod units;

pub mod audit;
pub mod dedup;
pub mod deliver;
pub mod detach;
pub mod handshake;
pub mod identify;
pub mod receive;
pub mod respond;
pub mod route;
pub mod verify;

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod providers;
pub mod server;
pub mod stack;
