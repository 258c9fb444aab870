"""What happens: streams, order, loading, the loop, reduction, checkpoint, trace."""
