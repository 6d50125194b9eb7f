public class Exits {
    public static void main(String[] args) {
        Thread t = new Thread(() -> { while (true) { } });
        t.setDaemon(true);
        t.start();
        if (args[0].equals("throw")) throw new IllegalStateException("thrown");
        System.out.println("leaving");
        System.exit(Integer.parseInt(args[0]));
    }
}
