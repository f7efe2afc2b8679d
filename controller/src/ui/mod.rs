//! The only writer to the terminal: data on stdout, everything else on stderr.
//!
//! Text may come from a host, and a forgotten escape would hand it the terminal. So no method takes text on trust:
//! every line, message, cell and field is escaped here ([`escape`]), JSON has its control characters written as
//! JSON escapes, and the run log passes a streaming escaper unless stdout is no terminal, where its bytes stay exact.
//!
//! | file | what |
//! |---|---|
//! | `terminal` | [`Ui`]: lines, JSON, the run log |
//! | `messages` | notes, warnings, hints and errors |
//! | `facts` | what is known about the streams: width, colours, who reads |
//! | `sink` | where bytes go, and what became of them |
//! | `escape` | which characters never reach a terminal |
//! | `table` | tables and aligned fields |
//! | `checklist` | findings under headings |
//! | `sparkline` | histories as one line of blocks |
//! | `plot`, `svg` | figures over time, as characters and as a file |
//! | `screen` | the live view: keys, drawing, and a terminal that is given back |
//! | `log_tail` | the last lines of a run log as plain text |
//! | `progress` | bars and spinners that give way to output |
//! | `ask` | questions and secrets typed by the user |
//! | `wrap` | prose broken into lines |
//! | `format` | sizes, durations, ages and times for people |

pub mod ask;
pub mod checklist;
pub mod escape;
mod facts;
pub mod format;
pub mod log_tail;
mod messages;
pub mod plot;
pub mod progress;
pub mod screen;
mod sink;
pub mod sparkline;
pub mod svg;
pub mod table;
mod terminal;
pub mod wrap;

pub use checklist::Checklist;
pub use facts::UiOptions;
pub use progress::Progress;
pub use screen::guards_terminal;
pub use sink::Captured;
pub use sparkline::sparkline;
pub use table::{Cell, Table, Tone};
pub use terminal::Ui;
