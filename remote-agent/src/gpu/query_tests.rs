//! Readings over scripted answers.
