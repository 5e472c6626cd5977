//! What the admin socket says, as JSON: the types that `routectl` shares with the agent.
//!
//! One connection carries one request and one reply, each a line of JSON.
