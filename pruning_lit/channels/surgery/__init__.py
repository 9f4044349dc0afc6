"""Surgery on a traced network: rehearsal of a cut on a copy, narrowing, masking, widening; cost by widths."""
