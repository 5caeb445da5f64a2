// LetheCommands
