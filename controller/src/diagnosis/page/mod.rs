//! A page to read, print and send: one file that needs no other.

mod html;
