"""Tables: any column predicted from all others."""
