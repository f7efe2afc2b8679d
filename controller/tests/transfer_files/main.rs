//! The transfer engine against OpenSSH's own SFTP server, and against one that lies.

mod content;
mod download;
mod full_disk;
mod hostile;
mod refusals;
mod resume;
mod server;
mod upload;
