//! Audiences over the API.
