"""Published methods that train in their own way, a folder each; the shared rooms below import none of them."""
