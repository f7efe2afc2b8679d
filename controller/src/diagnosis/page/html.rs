//! Text as HTML.
