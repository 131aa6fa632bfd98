"""Drawing: the pictures, and the process that draws them. Only what runs in it imports matplotlib."""
