mod fake;
mod model;
mod stories;
